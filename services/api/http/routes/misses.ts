import { Router } from 'express';
import type { ApiDeps } from '../deps.ts';
import { listMisses } from '../../record/misses.ts';
import { NO_BODY, ok, route } from '../route.ts';

/** `/v1/misses`: what hosts asked for and did not get, and why. */
export const missRoutes = (deps: ApiDeps): Router => {
  const router = Router();
  router.get(
    '/v1/misses',
    route(deps, 'admin', NO_BODY, async ({ page }) => ok(await listMisses(deps.db, page()))),
  );
  return router;
};
