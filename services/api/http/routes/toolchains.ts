import { Router } from 'express';
import {
  CreateToolchain,
  PromoteToolchain,
  type ToolchainView,
} from '../../../core/protocol/toolchain.ts';
import { KilnError } from '../../../core/errors.ts';
import {
  TOOLCHAIN_PACKAGES_LIMIT,
  ToolchainPackages,
} from '../../../core/toolchain/toolchain-packages.ts';
import type { ApiDeps } from '../deps.ts';
import { findMakers } from '../../record/makers.ts';
import { readPage } from '../../record/pages.ts';
import { toolchainView } from '../../record/records.ts';
import { NO_BODY, ok, route } from '../route.ts';
import {
  addToolchain,
  findToolchain,
  promoteToolchain,
  retireToolchain,
  type ToolchainRow,
} from '../../record/toolchains.ts';
import { keepPackages, keptPackages, mustBeKept } from '../../record/toolchain-packages.ts';
import { useUpload } from '../../record/uploads.ts';
import { sendBlob } from '../send-blob.ts';

/** `/v1/toolchains`: add, list, show, promote, retire; keep and give the packages that one was made of. */
export const toolchainRoutes = (deps: ApiDeps): Router => {
  const { db } = deps;
  const router = Router();
  const view = async (row: ToolchainRow): Promise<ToolchainView> =>
    toolchainView(row, await findMakers(db, [row.made_by]));

  router.post(
    '/v1/toolchains',
    route(deps, 'admin', CreateToolchain, async ({ body: { blob, name, candidate }, caller }) => {
      const row = await useUpload(deps, blob, caller, () =>
        addToolchain(deps, blob, name, candidate, caller.token),
      );
      if (row.state === 'measuring') await deps.coordinator.measure(blob);
      return { status: 201, json: await view(row) };
    }),
  );
  router.get(
    '/v1/toolchains',
    route(deps, 'client', NO_BODY, async ({ page }) => {
      const { items, next } = await readPage(
        db.selectFrom('toolchains').selectAll(),
        { table: 'toolchains', columns: ['created_at', 'digest'], direction: 'desc' },
        page(),
      );
      const makers = await findMakers(
        db,
        items.map(({ made_by }) => made_by),
      );
      return ok({ items: items.map((row) => toolchainView(row, makers)), next });
    }),
  );
  router.get(
    '/v1/toolchains/:digest',
    route(deps, 'client', NO_BODY, async ({ digest }) =>
      ok(await view(await findToolchain(db, digest('digest')))),
    ),
  );
  router.post(
    '/v1/toolchains/:digest/promote',
    route(deps, 'admin', PromoteToolchain, async ({ digest, body }) =>
      ok(await view(await promoteToolchain(deps, digest('digest'), body.untried))),
    ),
  );
  router.post(
    '/v1/toolchains/:digest/retire',
    route(deps, 'admin', NO_BODY, async ({ digest }) =>
      ok(await view(await retireToolchain(deps, digest('digest')))),
    ),
  );
  router.post(
    '/v1/toolchains/:digest/packages',
    route(
      deps,
      'admin',
      ToolchainPackages,
      async ({ caller, digest, body }) =>
        ok(await view(await keepPackages(deps, digest('digest'), body, caller))),
      TOOLCHAIN_PACKAGES_LIMIT,
    ),
  );
  router.get(
    '/v1/toolchains/:digest/packages',
    route(deps, 'client', NO_BODY, async ({ digest }) =>
      ok(await keptPackages(db, digest('digest'))),
    ),
  );
  router.get(
    '/v1/toolchains/:digest/packages/:package',
    route(deps, 'client', NO_BODY, async ({ digest, request, response }) => {
      const wanted = digest('package');
      await mustBeKept(db, digest('digest'), wanted);
      const info = await deps.blobs.find(wanted);
      if (info === null)
        throw new KilnError(
          'not-found',
          `package ${wanted} is not stored any more; send it again (kiln toolchain push --packages)`,
        );
      return sendBlob(deps.blobs, info, request, response);
    }),
  );
  return router;
};
