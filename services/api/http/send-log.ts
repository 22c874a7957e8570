import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Response } from 'express';
import { isFinished } from '../../core/build/build-state.ts';
import { KilnError } from '../../core/errors.ts';
import { runName } from '../../core/jobs/run-name.ts';
import type { BuildView } from '../../core/protocol/build.ts';
import type { ApiDeps } from './deps.ts';

type LogDeps = Pick<ApiDeps, 'blobs' | 'signals'>;

/** Answers with a build's log: the whole, or of a build under way what there is so far. Throws `not-found` where an ended build has none. */
export const sendLog = async (
  deps: LogDeps,
  build: BuildView,
  response: Response,
): Promise<null> => {
  if (build.log === null && isFinished(build.state)) {
    const run = runName(build.id, build.attempt);
    if ((await deps.signals.readLog(run, '0-0', 1)).length === 0) throw noLog(build);
  }
  const pieces = build.log === null ? liveLog(deps, build) : await deps.blobs.open(build.log);
  await pipeline(Readable.from(pieces), response.type('text/plain; charset=utf-8'));
  return null;
};

/** The error that says why an ended build has no log. */
const noLog = ({ id, state, startedAt, finishedAt, failure }: BuildView): KilnError => {
  const day = new Date(finishedAt ?? 0).toISOString().slice(0, 10);
  const hadOne = state === 'failed' && startedAt !== null && failure?.code !== 'builder-broken';
  return new KilnError(
    'not-found',
    hadOne
      ? `the log of build ${id} is not kept any more: it failed on ${day}; kiln build --retry makes a new one`
      : `build ${id} has no log: it ended as ${state} on ${day}, before a builder had run it to its end`,
  );
};

const PIECES_AT_ONCE = 50;

/** A running build's log so far, some pieces at a time. */
async function* liveLog({ signals }: LogDeps, build: BuildView): AsyncGenerator<string> {
  for (let after = '0-0'; ;) {
    const pieces = await signals.readLog(runName(build.id, build.attempt), after, PIECES_AT_ONCE);
    for (const { text } of pieces) yield text;
    const last = pieces.at(-1);
    if (last === undefined) return;
    after = last.id;
  }
}
