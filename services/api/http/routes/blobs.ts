import { Router } from 'express';
import { KilnError } from '../../../core/errors.ts';
import type { ApiDeps } from '../deps.ts';
import { NO_BODY, route } from '../route.ts';
import { claimUpload, storeUpload } from '../../record/uploads.ts';

/** `/v1/blobs/DIGEST`: HEAD asks whether one need not send it, PUT sends it. Bytes travel once; see uploads.ts. */
export const blobRoutes = (deps: ApiDeps): Router => {
  const router = Router();
  router.head(
    '/v1/blobs/:digest',
    route(deps, 'client', NO_BODY, async ({ caller, digest, response }) => {
      const info = await claimUpload(deps, digest('digest'), caller);
      if (info === null) throw new KilnError('not-found', 'there is no such blob');
      response.status(200).setHeader('Content-Length', info.size).end();
      return null;
    }),
  );
  router.put(
    '/v1/blobs/:digest',
    route(deps, 'client', NO_BODY, async ({ caller, digest, request }) => {
      const expected = digest('digest');
      const announced = Number(request.headers['content-length'] ?? '0');
      if (announced > deps.blobLimit) {
        throw new KilnError(
          'too-large',
          `the upload is ${announced} bytes; the limit of this service is ${deps.blobLimit}`,
        );
      }
      const json = await deps.usage.upload(caller, request, (limit) =>
        storeUpload(deps, request, { expected, limit }, caller),
      );
      return { status: 201, json };
    }),
  );
  return router;
};
