import { pipeline } from 'node:stream/promises';
import { Router, type Request } from 'express';
import { KilnError } from '../../../core/errors.ts';
import { findWithdrawn } from '../../../core/withdrawal.ts';
import type { ByteRange } from '../../../storage/blob-file.ts';
import type { ApiDeps } from '../deps.ts';
import { mustBeGiven, readWithdrawals } from '../../record/withdrawn.ts';
import { mayReadArtifact } from '../../record/readers.ts';
import { NO_BODY, ok, route } from '../route.ts';

/**
 * The one range of bytes that a request wants (RFC 9110, 14.2), `null` for the whole: also where `If-Range` names other bytes, or
 * where several ranges are asked for. `outside` if there are no such bytes.
 */
const wantedRange = (
  request: Request,
  size: number,
  etag: string,
): ByteRange | 'outside' | null => {
  const condition = request.get('If-Range');
  const found = condition === undefined || condition === etag ? request.range(size) : undefined;
  if (found === -1) return 'outside';
  if (found === undefined || found === -2 || found.type !== 'bytes' || found.length !== 1)
    return null;
  return found[0] ?? null;
};

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
      const etag = `"${wanted}"`;
      const range = wantedRange(request, info.size, etag);
      // What is damaged gets no headers of a good answer.
      const bytes = range === 'outside' ? null : await blobs.open(wanted, range ?? undefined);
      response.set({
        'Accept-Ranges': 'bytes',
        ETag: etag,
        'Cache-Control': 'private, max-age=31536000, immutable',
      });
      if (range === 'outside' || bytes === null) {
        response.status(416).set('Content-Range', `bytes */${info.size}`).end();
        return null;
      }
      const { start, end } = range ?? { start: 0, end: info.size - 1 };
      if (range !== null)
        response.status(206).set('Content-Range', `bytes ${start}-${end}/${info.size}`);
      response.type('application/octet-stream').set('Content-Length', String(end - start + 1));
      await pipeline(bytes, response);
      return null;
    }),
  );

  router.get(
    '/v1/signers',
    route(deps, 'client', NO_BODY, async () => {
      const signers = await db
        .selectFrom('signers')
        .select(['key', 'certificate'])
        .orderBy('seen_at', 'desc')
        .execute();
      const withdrawals = await readWithdrawals(db);
      const items = signers.filter(
        ({ key }) => findWithdrawn(withdrawals, [['signer', key]]) === null,
      );
      return ok({ items });
    }),
  );
  return router;
};
