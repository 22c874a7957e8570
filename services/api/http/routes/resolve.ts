import { json, Router } from 'express';
import { ResolveBuilds, WISHES_BODY_LIMIT } from '../../../core/protocol.ts';
import type { ApiDeps } from '../deps.ts';
import { resolveWishes } from '../../record/resolve-wishes.ts';
import { admit, ok, route } from '../route.ts';

/** `/v1/resolve`: what builds would be made from now. Its body may be large, so that it is read of those alone who may ask. */
export const resolveRoutes = (deps: ApiDeps): Router => {
  const router = Router();
  router.post(
    '/v1/resolve',
    admit(deps, 'client'),
    json({ limit: WISHES_BODY_LIMIT }),
    route(deps, 'client', ResolveBuilds, async ({ body }) =>
      ok({ items: await resolveWishes(deps.db, body.wishes, deps.script) }),
    ),
  );
  return router;
};
