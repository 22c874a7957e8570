import { pipeline } from 'node:stream/promises';
import { Router } from 'express';
import { KilnError } from '../../core/errors.ts';
import type { ApiDeps } from '../deps.ts';
import { findArtifact } from '../records.ts';
import { NO_BODY, ok, route } from '../route.ts';

/** `/v1/artifacts/DIGEST`: what builds made (modules, logs, attestations), and no other blob. `/v1/signers`: who signs here. */
export const artifactRoutes = (deps: ApiDeps): Router => {
  const { db, blobs } = deps;
  const router = Router();

  router.get(
    '/v1/artifacts/:digest',
    route(deps, 'client', NO_BODY, async ({ digest, response }) => {
      const wanted = digest('digest');
      const info = (await findArtifact(db, wanted)) === undefined ? null : await blobs.find(wanted);
      if (info === null) throw new KilnError('not-found', `there is no artifact ${wanted}`);
      response.type('application/octet-stream').setHeader('Content-Length', info.size);
      response.setHeader('Cache-Control', 'private, max-age=31536000, immutable');
      await pipeline(await blobs.open(wanted), response);
      return null;
    }),
  );

  router.get(
    '/v1/signers',
    route(deps, 'client', NO_BODY, async () => {
      const items = await db
        .selectFrom('signers')
        .select(['key', 'certificate'])
        .orderBy('seen_at', 'desc')
        .execute();
      return ok({ items });
    }),
  );
  return router;
};
