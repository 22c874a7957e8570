import { pipeline } from 'node:stream/promises';
import { Router, type Response } from 'express';
import { z } from 'zod';
import { BUILD_STATES } from '../../../core/build-state.ts';
import type { Digest } from '../../../core/digest.ts';
import { KilnError } from '../../../core/errors.ts';
import { CancelBuild, CreateBuild } from '../../../core/protocol.ts';
import { runName } from '../../../core/run-name.ts';
import type { ApiDeps } from '../deps.ts';
import { followBuild } from '../follow-build.ts';
import { readUploadedBuild } from '../multipart.ts';
import { noteLostBuild, noteRefusal } from '../../record/misses.ts';
import { mustHaveRoom } from '../../record/waiting.ts';
import { rebuildView } from '../../coordinator/rebuilds.ts';
import { buildView } from '../../record/records.ts';
import { NO_BODY, ok, route } from '../route.ts';

/** A build is asked for in JSON, or in a form with two archives. */
const JSON_OR_FORM = z.unknown();
const LIST_LIMIT = 200;
/** All that one toolchain has made: a candidate for its place must make it, too. */
const TRIAL_LIMIT = 10_000;

/** `/v1/builds`: ask, show, list, follow, read the log, cancel. */
export const buildRoutes = (deps: ApiDeps): Router => {
  const { db, coordinator } = deps;
  const router = Router();

  router.post(
    '/v1/builds',
    route(deps, 'client', JSON_OR_FORM, async ({ body, caller, request }) => {
      const asker = { ...caller, builds: caller.quotas.builds };
      let wanted = request.is('multipart/form-data') === false ? CreateBuild.parse(body) : null;
      try {
        wanted ??= await deps.usage.upload(caller, request, async (blobLimit) => {
          await mustHaveRoom(db, asker, 1);
          return readUploadedBuild(request, { ...deps, blobLimit }, caller);
        });
        const ticket = await coordinator.request(wanted, asker);
        const { id, state } = ticket.build;
        if (ticket.cached && (state === 'failed' || state === 'excluded'))
          await noteLostBuild(db, deps.now(), id, state, 1);
        return { status: ticket.cached ? 200 : 202, json: ticket };
      } catch (error) {
        await noteRefusal(db, deps.now(), wanted, error);
        throw error;
      }
    }),
  );

  router.get(
    '/v1/builds',
    route(deps, 'client', NO_BODY, async ({ request }) => {
      const query = request.query['state'];
      const state = typeof query === 'string' ? query : '';
      if (state !== '' && !BUILD_STATES.some((known) => known === state)) {
        throw new KilnError(
          'bad-request',
          `${JSON.stringify(state)} is no state; there are ${BUILD_STATES.join(', ')}`,
        );
      }
      let wanted = db
        .selectFrom('builds')
        .select('id')
        .orderBy('created_at', 'desc')
        .limit(LIST_LIMIT);
      if (state !== '') wanted = wanted.where('state', '=', state);
      const toolchain = request.query['toolchain'];
      if (typeof toolchain === 'string')
        wanted = wanted.where('toolchain', '=', toolchain).limit(TRIAL_LIMIT);
      const rows = await wanted.execute();
      return ok({ items: await Promise.all(rows.map(({ id }) => buildView(db, id))) });
    }),
  );

  router.get(
    '/v1/builds/:id',
    route(deps, 'client', NO_BODY, async ({ param }) => ok(await buildView(db, param('id')))),
  );

  router.get(
    '/v1/builds/:id/events',
    route(deps, 'client', NO_BODY, async ({ caller, param, request, response }) => {
      await deps.usage.follow(caller, () => followBuild(deps, param('id'), request, response));
      return null;
    }),
  );

  router.get(
    '/v1/builds/:id/log',
    route(deps, 'client', NO_BODY, async ({ param, response }) => {
      const { id, attempt, log } = await buildView(db, param('id'));
      if (log === null) {
        response.type('text/plain; charset=utf-8');
        const pieces = await deps.signals.readLog(runName(id, attempt), '0-0', 20_000);
        response.send(pieces.map(({ text }) => text).join(''));
      } else {
        await sendBlob(deps, log, response);
      }
      return null;
    }),
  );

  router.post(
    '/v1/builds/:id/rebuild',
    route(deps, 'ci', NO_BODY, async ({ param }) => ({
      status: 202,
      json: await coordinator.rebuild(param('id')),
    })),
  );
  router.get(
    '/v1/rebuilds/:id',
    route(deps, 'client', NO_BODY, async ({ param }) => ok(await rebuildView(db, param('id')))),
  );

  router.post(
    '/v1/builds/:id/cancel',
    route(deps, 'client', CancelBuild, async ({ param, body, caller }) => {
      const id = param('id');
      if (body.request === undefined && caller.role !== 'admin') {
        throw new KilnError(
          'forbidden',
          'only an admin may cancel for everyone who waits; name your own request',
        );
      }
      if (body.request !== undefined) {
        const own = await db
          .selectFrom('requests')
          .select('token')
          .where('id', '=', body.request)
          .where('build', '=', id)
          .executeTakeFirst();
        if (own?.token !== caller.token)
          throw new KilnError('not-found', 'you have no such request for this build');
      }
      await coordinator.cancel(id, body.request ?? null);
      return ok(await buildView(db, id));
    }),
  );
  return router;
};

const sendBlob = async (deps: ApiDeps, digest: Digest, response: Response): Promise<void> => {
  const bytes = await deps.blobs.open(digest);
  await pipeline(bytes, response.type('text/plain; charset=utf-8'));
};
