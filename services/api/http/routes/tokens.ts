import { Router } from 'express';
import { CreateToken } from '../../../core/protocol.ts';
import type { ApiDeps } from '../deps.ts';
import { NO_BODY, ok, route } from '../route.ts';
import { issueToken, listTokens, revokeToken } from '../../record/tokens.ts';

/** `/v1/tokens`: an admin makes, lists and revokes them. */
export const tokenRoutes = (deps: ApiDeps): Router => {
  const router = Router();
  router.post(
    '/v1/tokens',
    route(deps, 'admin', CreateToken, async ({ body }) => ({
      status: 201,
      json: await issueToken(deps.db, deps.now(), body),
    })),
  );
  router.get(
    '/v1/tokens',
    route(deps, 'admin', NO_BODY, async () => ok({ items: await listTokens(deps.db) })),
  );
  router.delete(
    '/v1/tokens/:id',
    route(deps, 'admin', NO_BODY, async ({ param, response }) => {
      await revokeToken(deps.db, deps.now(), param('id'));
      response.status(204).end();
      return null;
    }),
  );
  return router;
};
