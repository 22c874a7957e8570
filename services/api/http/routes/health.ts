import { Router } from 'express';
import { sql } from 'kysely';
import type { ApiDeps } from '../deps.ts';
import { sendProblem } from '../problem.ts';

/** `/healthz`: the process answers. `/readyz`: so do SQL and Redis. No token is needed. */
export const healthRoutes = (deps: ApiDeps): Router => {
  const router = Router();
  router.get('/healthz', (_request, response) => {
    response.json({ status: 'ok' });
  });
  router.get('/readyz', async (_request, response) => {
    const missing = await findMissing(deps);
    if (missing === null) response.json({ status: 'ready' });
    else sendProblem(response, 'unavailable', missing);
  });
  return router;
};

const findMissing = async ({ db, signals }: ApiDeps): Promise<string | null> => {
  try {
    await sql`SELECT 1`.execute(db);
  } catch {
    return 'the database does not answer';
  }
  try {
    await signals.ping(2000);
  } catch {
    return 'Redis does not answer';
  }
  return null;
};
