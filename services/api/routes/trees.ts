import { Router } from 'express';
import { CreateKernel, CreateSource } from '../../core/protocol.ts';
import type { ApiDeps } from '../deps.ts';
import { ingestSource } from '../ingest.ts';
import {
  confirmKernel,
  findKernel,
  ingestKernel,
  ingestKernelDelta,
  kernelFiles,
} from '../ingest-kernel.ts';
import { kernelOf, kernelView, sourceOf, sourceView } from '../records.ts';
import { NO_BODY, ok, route } from '../route.ts';

/** `/v1/sources`, `/v1/kernels`: the trees that builds are made of. Each is made from a blob that was PUT before. */
export const treeRoutes = (deps: ApiDeps): Router => {
  const { db } = deps;
  const router = Router();

  router.post(
    '/v1/sources',
    route(deps, 'client', CreateSource, async ({ body, caller }) => ({
      status: 201,
      json: sourceView(await ingestSource(deps, body.blob, caller.role, body)),
    })),
  );
  router.get(
    '/v1/sources',
    route(deps, 'client', NO_BODY, async () => {
      const rows = await db
        .selectFrom('source_names')
        .innerJoin('sources', 'sources.digest', 'source_names.source')
        .selectAll('sources')
        .orderBy('sources.name')
        .execute();
      return ok({ items: rows.map((row) => sourceView(sourceOf(row))) });
    }),
  );

  router.post(
    '/v1/kernels',
    route(deps, 'client', CreateKernel, async ({ body, caller }) => {
      const stored =
        'digest' in body
          ? await confirmKernel(deps, body.digest, caller.role)
          : 'delta' in body
            ? await ingestKernelDelta(deps, body, caller.role)
            : await ingestKernel(deps, body.blob, caller.role);
      return { status: 201, json: kernelView(stored) };
    }),
  );
  router.get(
    '/v1/kernels/:digest',
    route(deps, 'client', NO_BODY, async ({ digest }) => {
      return ok(kernelView(await findKernel(deps, digest('digest'))));
    }),
  );
  router.get(
    '/v1/kernels/:digest/files',
    route(deps, 'client', NO_BODY, async ({ digest, response }) => {
      response.type('text/plain; charset=utf-8').send(await kernelFiles(deps, digest('digest')));
      return null;
    }),
  );
  router.get(
    '/v1/kernels',
    route(deps, 'client', NO_BODY, async () => {
      const rows = await db
        .selectFrom('kernels')
        .selectAll()
        .orderBy('created_at', 'desc')
        .execute();
      return ok({ items: rows.map((row) => kernelView(kernelOf(row))) });
    }),
  );
  return router;
};
