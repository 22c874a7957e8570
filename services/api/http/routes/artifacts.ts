import { Router } from 'express';
import { KilnError } from '../../../core/errors.ts';
import type { ApiDeps } from '../deps.ts';
import { mustBeGiven } from '../../record/withdrawn.ts';
import { readPage } from '../../record/pages.ts';
import { mayReadArtifact } from '../../record/readers.ts';
import { NO_BODY, ok, route } from '../route.ts';
import { sendBlob } from '../send-blob.ts';

/** `/v1/artifacts/DIGEST`: what builds made (modules, logs, attestations), and no other blob. `/v1/signers`: who signs here. */
export const artifactRoutes = (deps: ApiDeps): Router => {
  const { db, blobs } = deps;
  const router = Router();

  router.get(
    '/v1/artifacts/:digest',
    route(deps, 'client', NO_BODY, async ({ caller, digest, request, response }) => {
      const wanted = digest('digest');
      const isOwn = await mayReadArtifact(db, caller, wanted);
      if (isOwn) await mustBeGiven(db, wanted);
      const info = isOwn ? await blobs.find(wanted) : null;
      if (info === null) throw new KilnError('not-found', `there is no artifact ${wanted}`);
      return sendBlob(blobs, info, request, response);
    }),
  );

  router.get(
    '/v1/signers',
    route(deps, 'client', NO_BODY, async ({ page }) => {
      const withdrawn = db.selectFrom('withdrawals').select('id').where('kind', '=', 'signer');
      const { items, next } = await readPage(
        db.selectFrom('signers').selectAll().where('key', 'not in', withdrawn),
        { table: 'signers', columns: ['seen_at', 'key'], direction: 'desc' },
        page(),
      );
      return ok({ items: items.map(({ key, certificate }) => ({ key, certificate })), next });
    }),
  );
  return router;
};
