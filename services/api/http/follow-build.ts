import { once } from 'node:events';
import type { Request, Response } from 'express';
import { isFinished } from '../../core/build/build-state.ts';
import { runName } from '../../core/jobs/run-name.ts';
import type { ApiDeps } from './deps.ts';
import { buildView } from '../record/build-views.ts';

const HEARTBEAT = 15_000;
const PIECES_AT_ONCE = 50;

/**
 * Sends server-sent events about a build until it is finished: `state` with the build whenever it changes, and `log` with the next text
 * of its log. A follower that reconnects with `Last-Event-ID` gets the log from there on: no line is repeated or lost.
 */
export const followBuild = async (
  deps: ApiDeps,
  id: string,
  request: Request,
  response: Response,
): Promise<void> => {
  let build = await buildView(deps.db, id);
  let told = '';
  const back = /^(\d+) (\d{1,20}-\d{1,20})$/.exec(String(request.headers['last-event-id'] ?? ''));
  let [attempt, after] =
    back?.[1] === undefined ? [-1, '0-0'] : [Number(back[1]), back[2] ?? '0-0'];

  response.writeHead(200, {
    'Content-Type': 'text/event-stream',
    'Cache-Control': 'no-store',
    'X-Accel-Buffering': 'no',
  });
  const closed = new AbortController();
  response.once('close', () => closed.abort());
  /** Sends one event, and waits for a follower that reads slowly instead of buffering for it. */
  const send = async (event: string, eventId: string | null, data: unknown): Promise<void> => {
    const isTaken = response.write(
      `${eventId === null ? '' : `id: ${eventId}\n`}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`,
    );
    if (isTaken || response.destroyed) return;
    const gone = AbortSignal.any([deps.stopping, closed.signal]);
    await once(response, 'drain', { signal: gone }).catch(() => {});
  };

  let wake = (): void => {};
  let isAwake = false;
  const unhook = deps.signals.onChange(id, () => {
    isAwake = true;
    wake();
  });
  const pause = async (): Promise<void> => {
    if (isAwake) return;
    await new Promise<void>((resolve) => {
      wake = resolve;
      setTimeout(resolve, HEARTBEAT).unref();
      if (deps.stopping.aborted || response.destroyed) resolve();
    });
  };
  const stop = (): void => wake();
  response.once('close', stop);
  deps.stopping.addEventListener('abort', stop);

  const sendLog = async (): Promise<void> => {
    if (attempt !== build.attempt) [attempt, after] = [build.attempt, '0-0'];
    for (;;) {
      const pieces = await deps.signals.readLog(runName(id, attempt), after, PIECES_AT_ONCE);
      for (const piece of pieces) {
        if (response.destroyed) return;
        after = piece.id;
        await send('log', `${attempt} ${piece.id}`, { text: piece.text });
      }
      if (pieces.length < PIECES_AT_ONCE) return;
    }
  };

  try {
    while (!response.destroyed && !deps.stopping.aborted) {
      isAwake = false;
      build = await buildView(deps.db, id);
      await sendLog();
      const state = `${build.state} ${build.attempt}`;
      if (state !== told) {
        told = state;
        await send('state', null, build);
      } else {
        response.write(': still here\n\n');
      }
      if (isFinished(build.state)) break;
      await pause();
    }
  } finally {
    unhook();
    deps.stopping.removeEventListener('abort', stop);
    response.end();
  }
};
