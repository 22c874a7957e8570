import { Router } from 'express';
import { KilnError } from '../../../core/errors.ts';
import { CreateKernel, HostKernel } from '../../../core/protocol/kernel.ts';
import { CreateSource, SourcesQuery } from '../../../core/protocol/source.ts';
import type { ApiDeps } from '../deps.ts';
import { ingestSource, voucher } from '../../record/ingest.ts';
import { findKernelOf } from '../../record/find-kernel.ts';
import {
  confirmKernelFor,
  findKernelFor,
  ingestKernel,
  ingestKernelDelta,
  kernelFiles,
  kernelSymvers,
} from '../../record/ingest-kernel.ts';
import { listSources } from '../../record/list-sources.ts';
import { readPage } from '../../record/pages.ts';
import { readableKernels } from '../../record/readers.ts';
import { besidesOf, kernelOf, kernelView, sourceView } from '../../record/records.ts';
import { NO_BODY, ok, route } from '../route.ts';

/** `/v1/sources`, `/v1/kernels`: the trees that builds are made of. Each is made from a blob that was PUT before. */
export const treeRoutes = (deps: ApiDeps): Router => {
  const { db } = deps;
  const router = Router();

  router.post(
    '/v1/sources',
    route(deps, 'client', CreateSource, async ({ body, caller }) => {
      const source = await ingestSource(deps, body.blob, caller, body);
      return { status: 201, json: sourceView(source, await besidesOf(db, [source])) };
    }),
  );
  router.get(
    '/v1/sources',
    route(deps, 'client', NO_BODY, async ({ caller, request }) => {
      const { items, next } = await listSources(db, caller, SourcesQuery.parse(request.query));
      const besides = await besidesOf(db, items);
      return ok({ items: items.map((source) => sourceView(source, besides)), next });
    }),
  );

  router.post(
    '/v1/kernels',
    route(deps, 'client', CreateKernel, async ({ body, caller }) => {
      const stored =
        'digest' in body
          ? await confirmKernelFor(deps, body.digest, voucher(caller))
          : 'delta' in body
            ? await ingestKernelDelta(deps, body, voucher(caller))
            : await ingestKernel(deps, body.blob, voucher(caller));
      return { status: 201, json: kernelView(stored, await besidesOf(db, [stored])) };
    }),
  );
  router.get(
    '/v1/kernels/:digest',
    route(deps, 'client', NO_BODY, async ({ caller, digest }) => {
      const found = await findKernelFor(deps, caller, digest('digest'));
      return ok(kernelView(found, await besidesOf(db, [found])));
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
    route(deps, 'client', NO_BODY, async ({ caller, request, page }) => {
      const { release, ...facts } = request.query;
      if (release !== undefined) {
        const named = HostKernel.parse({ release, ...facts });
        const found = await findKernelOf(db, caller, named).catch(onlyNotFound);
        if (found === null) return ok({ items: [], next: null });
        return ok({ items: [kernelView(found, await besidesOf(db, [found]))], next: null });
      }
      const { items, next } = await readPage(
        readableKernels(db, caller),
        { table: 'kernels', columns: ['created_at', 'digest'], direction: 'desc' },
        page(),
      );
      const kernels = items.map(kernelOf);
      const besides = await besidesOf(db, kernels);
      return ok({ items: kernels.map((kernel) => kernelView(kernel, besides)), next });
    }),
  );
  return router;
};

const onlyNotFound = (error: unknown): null => {
  if (error instanceof KilnError && (error.code === 'not-found' || error.code === 'withdrawn'))
    return null;
  throw error;
};
