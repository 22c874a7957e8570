import { Router } from 'express';
import { KilnError } from '../../../core/errors.ts';
import { CreateKernel, CreateSource, KernelFacts } from '../../../core/protocol.ts';
import type { ApiDeps } from '../deps.ts';
import { ingestSource, voucher } from '../../record/ingest.ts';
import {
  confirmKernel,
  findKernel,
  ingestKernel,
  ingestKernelDelta,
  kernelFiles,
  kernelSymvers,
} from '../../record/ingest-kernel.ts';
import { listMakers } from '../../record/makers.ts';
import { kernelOf, kernelView, sourceOf, sourceView } from '../../record/records.ts';
import { findKernelOf } from '../../record/resolve-build.ts';
import { NO_BODY, ok, route } from '../route.ts';

/** `/v1/sources`, `/v1/kernels`: the trees that builds are made of. Each is made from a blob that was PUT before. */
export const treeRoutes = (deps: ApiDeps): Router => {
  const { db } = deps;
  const router = Router();

  router.post(
    '/v1/sources',
    route(deps, 'client', CreateSource, async ({ body, caller }) => ({
      status: 201,
      json: sourceView(await ingestSource(deps, body.blob, caller, body), await listMakers(db)),
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
      const makers = await listMakers(db);
      return ok({ items: rows.map((row) => sourceView(sourceOf(row), makers)) });
    }),
  );

  router.post(
    '/v1/kernels',
    route(deps, 'client', CreateKernel, async ({ body, caller }) => {
      const stored =
        'digest' in body
          ? await confirmKernel(deps, body.digest, voucher(caller))
          : 'delta' in body
            ? await ingestKernelDelta(deps, body, voucher(caller))
            : await ingestKernel(deps, body.blob, voucher(caller));
      return { status: 201, json: kernelView(stored, await listMakers(db)) };
    }),
  );
  router.get(
    '/v1/kernels/:digest',
    route(deps, 'client', NO_BODY, async ({ digest }) => {
      return ok(kernelView(await findKernel(deps, digest('digest')), await listMakers(db)));
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
    '/v1/kernels/:digest/symvers',
    route(deps, 'client', NO_BODY, async ({ digest, response }) => {
      const text = await kernelSymvers(deps, digest('digest'));
      if (text === null)
        throw new KilnError('not-found', 'the headers of this kernel have no Module.symvers');
      response.type('text/plain; charset=utf-8').send(text);
      return null;
    }),
  );
  /** With `release` (and `build`, `options`, `arch`): the one kernel that a host with these facts means, or none. */
  router.get(
    '/v1/kernels',
    route(deps, 'client', NO_BODY, async ({ request }) => {
      const { release, ...facts } = request.query;
      const makers = await listMakers(db);
      if (release !== undefined) {
        const named = KernelFacts.parse({ release, ...facts });
        const found = await findKernelOf(db, named).catch(onlyNotFound);
        return ok({ items: found === null ? [] : [kernelView(found, makers)] });
      }
      const rows = await db
        .selectFrom('kernels')
        .selectAll()
        .orderBy('created_at', 'desc')
        .execute();
      return ok({ items: rows.map((row) => kernelView(kernelOf(row), makers)) });
    }),
  );
  return router;
};

const onlyNotFound = (error: unknown): null => {
  if (error instanceof KilnError && (error.code === 'not-found' || error.code === 'withdrawn'))
    return null;
  throw error;
};
