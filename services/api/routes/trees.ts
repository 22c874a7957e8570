import { Router } from 'express';
import { CreateKernel, CreateSource, CreateToolchain } from '../../core/protocol.ts';
import { KilnError } from '../../core/errors.ts';
import type { ApiDeps } from '../deps.ts';
import { ingestSource } from '../ingest.ts';
import {
  confirmKernel,
  findKernel,
  ingestKernel,
  ingestKernelDelta,
  kernelFiles,
} from '../ingest-kernel.ts';
import { kernelOf, kernelView, sourceOf, sourceView, toolchainView } from '../records.ts';
import { NO_BODY, ok, route } from '../route.ts';

/** `/v1/sources`, `/v1/kernels`, `/v1/toolchains`: what builds are made of. Each is made from a blob that was PUT before. */
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
          : body.base === undefined
            ? await ingestKernel(deps, body.blob, caller.role)
            : await ingestKernelDelta(deps, body.blob, body.base, caller.role);
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

  router.post(
    '/v1/toolchains',
    route(deps, 'admin', CreateToolchain, async ({ body }) => {
      if ((await deps.blobs.find(body.blob)) === null) {
        throw new KilnError(
          'not-found',
          `there is no blob ${body.blob}; PUT the root file system first`,
        );
      }
      const row = {
        digest: body.blob,
        name: body.name,
        state: 'measuring',
        contents: null,
        problem: null,
        created_at: deps.now(),
      };
      await db
        .insertInto('toolchains')
        .values(row)
        .onConflict((conflict) => conflict.column('digest').doUpdateSet({ name: body.name }))
        .execute();
      await db
        .updateTable('toolchains')
        .set({ state: 'measuring', problem: null })
        .where('digest', '=', body.blob)
        .where('state', '=', 'refused')
        .execute();
      const stored = await db
        .selectFrom('toolchains')
        .selectAll()
        .where('digest', '=', body.blob)
        .executeTakeFirstOrThrow();
      if (stored.state === 'measuring') await deps.coordinator.measure(body.blob);
      return { status: 201, json: toolchainView(stored) };
    }),
  );
  router.get(
    '/v1/toolchains',
    route(deps, 'client', NO_BODY, async () => {
      const rows = await db
        .selectFrom('toolchains')
        .selectAll()
        .orderBy('created_at', 'desc')
        .execute();
      return ok({ items: rows.map(toolchainView) });
    }),
  );
  router.get(
    '/v1/toolchains/:digest',
    route(deps, 'client', NO_BODY, async ({ digest }) => {
      const row = await db
        .selectFrom('toolchains')
        .selectAll()
        .where('digest', '=', digest('digest'))
        .executeTakeFirst();
      if (row === undefined) throw new KilnError('not-found', 'there is no such toolchain');
      return ok(toolchainView(row));
    }),
  );
  return router;
};
