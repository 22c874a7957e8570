import { Router } from 'express';
import { KilnError } from '../../../core/errors.ts';
import { CreatePackages } from '../../../core/protocol/package.ts';
import type { ApiDeps } from '../deps.ts';
import { findPackage, packagesOf, packageViews, type PackageRow } from '../../record/packages.ts';
import { mustBeOfGiven } from '../../record/withdrawn.ts';
import { mayReadBuild, mayReadFiles, mustReadBuild } from '../../record/readers.ts';
import { roleReaches } from '../../../core/policy/policy.ts';
import { fromJson } from '../../../storage/json-text.ts';
import { mustReach, type Caller } from '../../record/tokens.ts';
import { NO_BODY, ok, route } from '../route.ts';
import { sendBlob } from '../send-blob.ts';

/** `/v1/builds/ID/packages` and `/v1/packages/ID`: packages of what was signed, for package managers. */
export const packageRoutes = (deps: ApiDeps): Router => {
  const { db, blobs, packing } = deps;
  const router = Router();

  router.post(
    '/v1/builds/:id/packages',
    route(deps, 'client', CreatePackages, async ({ caller, param, body }) => {
      await mustReadBuild(db, caller, param('id'));
      // Each has another image made, which loads what it says of the kernel's own on all hosts that take it.
      if (body.inTree !== undefined) mustReach(caller.role, 'ci');
      const rows = await packing.ofBuild(param('id'), {
        format: body.format,
        inTree: body.inTree,
        madeBy: caller.token,
        isRetry: true,
      });
      return { status: 202, json: { items: await packageViews(db, rows) } };
    }),
  );

  router.get(
    '/v1/builds/:id/packages',
    route(deps, 'client', NO_BODY, async ({ caller, param }) => {
      await mustReadBuild(db, caller, param('id'));
      return ok({ items: await packageViews(db, await packagesOf(db, param('id'))) });
    }),
  );

  /** A package that the caller may read: its build, a build whose source brings the same files, or, of what has neither, all of them. */
  const readable = async (caller: Caller, id: string): Promise<PackageRow> => {
    const row = await findPackage(db, id);
    const subject = fromJson(row.subject);
    const isOwn =
      subject.kind === 'modules'
        ? await mayReadBuild(db, caller, subject.build)
        : subject.kind === 'settings'
          ? await mayReadFiles(
              db,
              caller,
              subject.files.map(({ digest }) => digest),
            )
          : subject.kind === 'common' || roleReaches(caller.role, 'ci');
    if (!isOwn) throw new KilnError('not-found', `there is no package ${id}`);
    return row;
  };

  router.get(
    '/v1/packages/:id',
    route(deps, 'client', NO_BODY, async ({ caller, param }) =>
      ok((await packageViews(db, [await readable(caller, param('id'))]))[0]),
    ),
  );

  router.get(
    '/v1/packages/:id/file',
    route(deps, 'client', NO_BODY, async ({ caller, param, request, response }) => {
      const { digest, id, build, key, state } = await readable(caller, param('id'));
      if (state === 'gone')
        throw new KilnError(
          'not-found',
          `the file of package ${id} has gone; ask for it again (kiln package)`,
        );
      const info = digest === null ? null : await blobs.find(digest);
      if (info === null) throw new KilnError('not-found', `package ${id} is not made yet`);
      await mustBeOfGiven(db, { build, key });
      return sendBlob(blobs, info, request, response);
    }),
  );
  return router;
};
