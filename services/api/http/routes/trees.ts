import { Router } from 'express';
import { KilnError } from '../../../core/errors.ts';
import { CreateKernel, HostKernel, type KernelView } from '../../../core/protocol/kernel.ts';
import { CreateSource } from '../../../core/protocol/source.ts';
import type { ApiDeps } from '../deps.ts';
import { ingestSource, voucher } from '../../record/ingest.ts';
import {
  confirmKernel,
  findKernelFor,
  ingestKernel,
  ingestKernelDelta,
  kernelFiles,
  kernelSymvers,
} from '../../record/ingest-kernel.ts';
import { mayReadTree } from '../../record/readers.ts';
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
    route(deps, 'client', NO_BODY, async ({ caller, digest }) => {
      const found = await findKernelFor(deps, caller, digest('digest'));
      return ok(kernelView(found, await listMakers(db)));
    }),
  );
  router.get(
    '/v1/kernels/:digest/files',
    route(deps, 'client', NO_BODY, async ({ caller, digest, response }) => {
      const found = await findKernelFor(deps, caller, digest('digest'));
      response.type('text/plain; charset=utf-8').send(await kernelFiles(deps, found.digest));
      return null;
    }),
  );
  router.get(
    '/v1/kernels/:digest/symvers',
    route(deps, 'client', NO_BODY, async ({ caller, digest, response }) => {
      const found = await findKernelFor(deps, caller, digest('digest'));
      const text = await kernelSymvers(deps, found.digest);
      if (text === null)
        throw new KilnError('not-found', 'the headers of this kernel have no Module.symvers');
      response.type('text/plain; charset=utf-8').send(text);
      return null;
    }),
  );
  /** With `release` (and `build`, `options`, `arch`): the one kernel that a host with these facts means, or none. */
  router.get(
    '/v1/kernels',
    route(deps, 'client', NO_BODY, async ({ caller, request }) => {
      const { release, ...facts } = request.query;
      const makers = await listMakers(db);
      if (release !== undefined) {
        const named = HostKernel.parse({ release, ...facts });
        const found = await findKernelOf(db, caller, named).catch(onlyNotFound);
        return ok({ items: found === null ? [] : [kernelView(found, makers)] });
      }
      const rows = await db
        .selectFrom('kernels')
        .selectAll()
        .orderBy('created_at', 'desc')
        .execute();
      const items: KernelView[] = [];
      for (const kernel of rows.map(kernelOf))
        if (await mayReadTree(db, caller, kernel)) items.push(kernelView(kernel, makers));
      return ok({ items });
    }),
  );
  return router;
};

const onlyNotFound = (error: unknown): null => {
  if (error instanceof KilnError && (error.code === 'not-found' || error.code === 'withdrawn'))
    return null;
  throw error;
};
