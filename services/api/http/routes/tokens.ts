import { Router } from 'express';
import { CreateToken, RevokeToken } from '../../../core/protocol/token.ts';
import type { ApiDeps } from '../deps.ts';
import { NO_BODY, ok, route } from '../route.ts';
import { pushedBy } from '../../record/makers.ts';
import { issueToken, listTokens, revokeToken } from '../../record/tokens.ts';

/** `/v1/tokens`: an admin makes, lists and revokes them. */
export const tokenRoutes = (deps: ApiDeps): Router => {
  const { coordinator } = deps;
  const router = Router();
  router.post(
    '/v1/tokens',
    route(deps, 'admin', CreateToken, async ({ body, caller }) => ({
      status: 201,
      json: await issueToken(deps.db, deps.now(), body, caller.token),
    })),
  );
  router.get(
    '/v1/tokens',
    route(deps, 'admin', NO_BODY, async ({ page }) => ok(await listTokens(deps.db, page()))),
  );
  router.post(
    '/v1/tokens/:id/revoke',
    route(deps, 'admin', RevokeToken, async ({ param, body, caller }) => {
      const id = param('id');
      await revokeToken(deps.db, deps.now(), id);
      const pushed = body.withdraw === undefined ? [] : await pushedBy(deps.db, id);
      for (const each of pushed)
        await coordinator.withdraw({ ...each, reason: body.withdraw ?? '' }, caller.token);
      return ok({ items: pushed });
    }),
  );
  return router;
};
