import { Router } from 'express';
import { ResolveBuilds, WISHES_BODY_LIMIT } from '../../../core/protocol/build.ts';
import type { ApiDeps } from '../deps.ts';
import { resolveWishes } from '../../record/resolve-wishes.ts';
import { orFetch } from '../missing-kernel.ts';
import { ok, route } from '../route.ts';

/** `/v1/resolve`: what builds would be made from now. */
export const resolveRoutes = (deps: ApiDeps): Router => {
  const router = Router();
  router.post(
    '/v1/resolve',
    route(
      deps,
      'client',
      ResolveBuilds,
      async ({ body, caller }) =>
        ok({
          items: await resolveWishes(deps.db, body.wishes, deps.script, caller, (wish, ask) =>
            orFetch(deps, caller, wish, ask),
          ),
        }),
      WISHES_BODY_LIMIT,
    ),
  );
  return router;
};
