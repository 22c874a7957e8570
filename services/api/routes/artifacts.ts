import { pipeline } from 'node:stream/promises';
import { Router } from 'express';
import { KilnError } from '../../core/errors.ts';
import type { ApiDeps } from '../deps.ts';
import { NO_BODY, ok, route } from '../route.ts';

/** `/v1/artifacts/DIGEST`: what builds made (modules, logs, attestations), and no other blob. `/v1/signers`: who signs here. */
export const artifactRoutes = (deps: ApiDeps): Router => {
  const { db, blobs } = deps;
  const router = Router();

  const isArtifact = async (digest: string): Promise<boolean> => {
    const module = db
      .selectFrom('modules')
      .select('build')
      .where((where) => where.or([where('signed', '=', digest), where('unsigned', '=', digest)]));
    const record = db
      .selectFrom('builds')
      .select('id')
      .where((where) => where.or([where('log', '=', digest), where('attestation', '=', digest)]));
    const found = await Promise.all([module.executeTakeFirst(), record.executeTakeFirst()]);
    return found.some((row) => row !== undefined);
  };

  router.get(
    '/v1/artifacts/:digest',
    route(deps, 'client', NO_BODY, async ({ digest, response }) => {
      const wanted = digest('digest');
      const info = (await isArtifact(wanted)) ? await blobs.find(wanted) : null;
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
