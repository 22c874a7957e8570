import { Router } from 'express';
import { z } from 'zod';
import { BUILD_STATES } from '../../../core/build/build-state.ts';
import { digest } from '../../../core/digest.ts';
import { KilnError } from '../../../core/errors.ts';
import { CancelBuild, CreateBuild } from '../../../core/protocol/build.ts';
import { PageQuery } from '../../../core/protocol/parts.ts';
import type { ApiDeps } from '../deps.ts';
import { followBuild } from '../follow-build.ts';
import { orFetch } from '../missing-kernel.ts';
import { sendLog } from '../send-log.ts';
import { readUploadedBuild } from '../multipart.ts';
import { noteLostBuild, noteRefusal } from '../../record/misses.ts';
import { mustHaveRoom } from '../../record/waiting.ts';
import { rebuildView } from '../../coordinator/rebuilds.ts';
import { mustReadBuild } from '../../record/readers.ts';
import { buildView, listBuilds } from '../../record/build-views.ts';
import { NO_BODY, ok, route } from '../route.ts';

/** Seconds after which a request that waits for its kernel is to be made again. */
const PAUSE = 2;

/** A build is asked for in JSON, or in a form with two tarballs. */
const JSON_OR_FORM = z.unknown();
/** Which builds are listed, and the page of their list. */
const BuildsQuery = PageQuery.extend({
  state: z
    .enum(BUILD_STATES, { error: `not a build’s state; those are ${BUILD_STATES.join(', ')}` })
    .optional(),
  toolchain: digest.optional(),
});

/** `/v1/builds`: ask, show, list, follow, read the log, cancel. */
export const buildRoutes = (deps: ApiDeps): Router => {
  const { db, coordinator, meters } = deps;
  const router = Router();

  router.post(
    '/v1/builds',
    route(deps, 'client', JSON_OR_FORM, async ({ body, caller, request, response }) => {
      let wanted = request.is('multipart/form-data') === false ? CreateBuild.parse(body) : null;
      try {
        wanted ??= await deps.usage.upload(caller, request, async (blobLimit) => {
          await mustHaveRoom(db, caller, 1);
          return readUploadedBuild(request, { ...deps, blobLimit }, caller);
        });
        const known = wanted;
        const ticket = await orFetch(deps, caller, known, () => coordinator.request(known, caller));
        if ('waiting' in ticket) {
          meters.count('kiln_requests_total', { answer: 'kernel', reason: '' });
          response.setHeader('Retry-After', PAUSE);
          return { status: 202, json: ticket };
        }
        const { id, state } = ticket.build;
        if (ticket.cached && (state === 'failed' || state === 'excluded'))
          await noteLostBuild(db, deps.now(), id, state, 1);
        const answer = ticket.cached ? 'built' : 'waits';
        meters.count('kiln_requests_total', { answer, reason: '' });
        return { status: ticket.cached ? 200 : 202, json: ticket };
      } catch (error) {
        const reason = error instanceof KilnError ? error.code : 'internal';
        meters.count('kiln_requests_total', { answer: 'refused', reason });
        await noteRefusal(db, deps.now(), wanted, error);
        throw error;
      }
    }),
  );

  router.get(
    '/v1/builds',
    route(deps, 'client', NO_BODY, async ({ caller, request }) =>
      ok(await listBuilds(db, caller, BuildsQuery.parse(request.query))),
    ),
  );

  router.get(
    '/v1/builds/:id',
    route(deps, 'client', NO_BODY, async ({ caller, param }) => {
      await mustReadBuild(db, caller, param('id'));
      return ok(await buildView(db, param('id')));
    }),
  );

  router.get(
    '/v1/builds/:id/events',
    route(deps, 'client', NO_BODY, async ({ caller, param, request, response }) => {
      await mustReadBuild(db, caller, param('id'));
      await deps.usage.follow(caller, () => followBuild(deps, param('id'), request, response));
      return null;
    }),
  );

  router.get(
    '/v1/builds/:id/log',
    route(deps, 'client', NO_BODY, async ({ caller, param, response }) => {
      await mustReadBuild(db, caller, param('id'));
      return sendLog(deps, await buildView(db, param('id')), response);
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
    route(deps, 'ci', NO_BODY, async ({ param }) => ok(await rebuildView(db, param('id')))),
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
          throw new KilnError('not-found', 'this token has no such request for this build');
      }
      await coordinator.cancel(id, body.request ?? null);
      return ok(await buildView(db, id));
    }),
  );
  return router;
};
