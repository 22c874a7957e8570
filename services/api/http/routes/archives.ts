import { Router } from 'express';
import { checkArchive } from '../../../core/kernel/archive.ts';
import { KilnError } from '../../../core/errors.ts';
import { CreateArchive, type ArchiveView } from '../../../core/protocol/archive.ts';
import type { Flag, Schema } from '../../../storage/schema.ts';
import type { ApiDeps } from '../deps.ts';
import { findMakers, makerIn, type Makers } from '../../record/makers.ts';
import { readPage } from '../../record/pages.ts';
import { NO_BODY, ok, route } from '../route.ts';

const archiveView = (
  { created_at, made_by, builds_ahead, ...row }: Schema['archives'],
  makers: Makers,
): ArchiveView => ({
  name: row.name,
  kind: row.kind,
  sources: row.sources,
  headers: row.headers,
  modules: row.modules,
  buildsAhead: builds_ahead === 1,
  madeBy: makerIn(makers, made_by),
  createdAt: created_at,
});

/** `/v1/archives`: the distributions that are followed; `/v1/sync`: doing it now. */
export const archiveRoutes = (deps: ApiDeps): Router => {
  const { db, kernelSync, kernelDemand } = deps;
  const router = Router();

  router.post(
    '/v1/archives',
    route(deps, 'admin', CreateArchive, async ({ body, caller }) => {
      const { buildsAhead, ...archive } = checkArchive(body);
      const builds_ahead: Flag = buildsAhead ? 1 : 0;
      // With a new description, what was seen under the old one counts no more.
      const facts = { ...archive, builds_ahead, newest: null, made_by: caller.token };
      const row = { ...facts, created_at: deps.now() };
      await db
        .insertInto('archives')
        .values(row)
        .onConflict((conflict) => conflict.column('name').doUpdateSet(facts))
        .execute();
      kernelDemand.forget();
      return { status: 201, json: archiveView(row, await findMakers(db, [caller.token])) };
    }),
  );
  router.get(
    '/v1/archives',
    route(deps, 'client', NO_BODY, async ({ page }) => {
      const { items, next } = await readPage(
        db.selectFrom('archives').selectAll(),
        { table: 'archives', columns: ['name'], direction: 'asc' },
        page(),
      );
      const makers = await findMakers(
        db,
        items.map(({ made_by }) => made_by),
      );
      return ok({ items: items.map((row) => archiveView(row, makers)), next });
    }),
  );
  router.delete(
    '/v1/archives/:name',
    route(deps, 'admin', NO_BODY, async ({ param, response }) => {
      const { numDeletedRows } = await db
        .deleteFrom('archives')
        .where('name', '=', param('name'))
        .executeTakeFirst();
      if (numDeletedRows === 0n)
        throw new KilnError(
          'not-found',
          'there is no such archive; kiln archive list shows those that are followed',
        );
      response.status(204).end();
      return null;
    }),
  );
  router.post(
    '/v1/sync',
    route(deps, 'ci', NO_BODY, async () => ({ status: 202, json: await kernelSync.start() })),
  );
  router.get(
    '/v1/sync',
    route(deps, 'client', NO_BODY, async () => ok(await kernelSync.state())),
  );
  return router;
};
