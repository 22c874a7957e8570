import { Router } from 'express';
import { KilnError } from '../../../core/errors.ts';
import {
  CreatePublication,
  Promote,
  type RepositoriesView,
} from '../../../core/protocol/repository.ts';
import type { ApiDeps } from '../deps.ts';
import { findMakers, makerIn } from '../../record/makers.ts';
import {
  notePublication,
  packagesIn,
  readPublications,
  readRepositories,
} from '../../record/repositories.ts';
import { NO_BODY, ok, route } from '../route.ts';

/** `/v1/repositories`: what is published, and by whom it is given to whom. */
export const repositoryRoutes = (deps: ApiDeps): Router => {
  const { db, publishing, now } = deps;
  const router = Router();

  const view = async (): Promise<RepositoriesView> => {
    const publications = await readPublications(db);
    const makers = await findMakers(
      db,
      publications.map(({ madeBy }) => madeBy),
    );
    const repositories: RepositoriesView['repositories'][number][] = [];
    for (const row of await readRepositories(db)) {
      const { format, suite, channel, generation, current, problem } = row;
      const packages = await packagesIn(db, row);
      repositories.push({
        format,
        suite,
        channel,
        problem,
        packages: packages.map(({ name, version }) => ({ name, version })),
        isCurrent: current === generation,
        isServed: current !== null,
        madeAt: row.served_made_at ?? row.made_at,
        validUntil: row.served_until ?? row.valid_until,
      });
    }
    return {
      publications: publications.map(({ madeBy, ...each }) => ({
        ...each,
        madeBy: makerIn(makers, madeBy),
      })),
      repositories,
      key: deps.repositoryKey,
    };
  };

  router.get(
    '/v1/repositories',
    route(deps, 'client', NO_BODY, async () => ok(await view())),
  );

  router.post(
    '/v1/publications',
    route(deps, 'admin', CreatePublication, async ({ body, caller }) => {
      const { source, formats, channel, hold } = body;
      const known = await db
        .selectFrom('source_names')
        .select('name')
        .where('name', '=', source)
        .executeTakeFirst();
      if (known === undefined)
        throw new KilnError(
          'not-found',
          `there is no source ${source}; kiln source list shows those that there are`,
        );
      await notePublication(db, {
        source,
        formats,
        channel,
        isHeld: hold,
        madeBy: caller.token,
        createdAt: now(),
      });
      publishing.poke();
      return ok(await view());
    }),
  );

  router.delete(
    '/v1/publications/:source',
    route(deps, 'admin', NO_BODY, async ({ param }) => {
      const { numDeletedRows } = await db
        .deleteFrom('publications')
        .where('source', '=', param('source'))
        .executeTakeFirst();
      if (numDeletedRows === 0n)
        throw new KilnError('not-found', `${param('source')} is not published`);
      publishing.poke();
      return ok({});
    }),
  );

  router.post(
    '/v1/repositories/promote',
    route(deps, 'admin', Promote, async ({ body }) => {
      await publishing.promote(body.source ?? null);
      return ok(await view());
    }),
  );
  return router;
};
