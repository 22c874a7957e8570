import { setTimeout as sleep } from 'node:timers/promises';
import { isFinished } from '../services/core/build-state.ts';
import { KilnError } from '../services/core/errors.ts';
import { BuildView } from '../services/core/protocol.ts';
import type { Send } from './http.ts';

/** Hears of a build's life. */
export interface Follower {
  state(build: BuildView): void;
  log(text: string): void;
}

const TRIES = 60;

/**
 * Follows a build to its end, and gives it back finished. A connection that breaks is made again where it broke: no line of the log is
 * lost or repeated. Gives up with `unreachable` after about two minutes without the service.
 */
export const followBuild = async (
  send: Send,
  id: string,
  follower: Follower,
  signal: AbortSignal,
): Promise<BuildView> => {
  let lastEvent: string | null = null;
  let failures = 0;
  for (;;) {
    try {
      const headers: Record<string, string> = { Accept: 'text/event-stream' };
      if (lastEvent !== null) headers['Last-Event-ID'] = lastEvent;
      const response = await send({
        method: 'GET',
        path: `/v1/builds/${id}/events`,
        headers,
        signal,
      });
      for await (const event of readEvents(response as AsyncIterable<Buffer>)) {
        failures = 0;
        lastEvent = event.id ?? lastEvent;
        if (event.name === 'log') follower.log((JSON.parse(event.data) as { text: string }).text);
        if (event.name !== 'state') continue;
        const build = BuildView.parse(JSON.parse(event.data));
        follower.state(build);
        if (isFinished(build.state)) return build;
      }
    } catch (error) {
      signal.throwIfAborted();
      const isFinal =
        error instanceof KilnError && error.code !== 'unreachable' && error.code !== 'unavailable';
      if (isFinal || failures >= TRIES) throw error;
    }
    failures += 1;
    await sleep(Math.min(250 * failures, 2000), undefined, { signal });
  }
};

interface ServerEvent {
  readonly id: string | null;
  readonly name: string;
  readonly data: string;
}

/** The events of a `text/event-stream`, as the service writes them. */
async function* readEvents(stream: AsyncIterable<Buffer>): AsyncGenerator<ServerEvent> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const piece of stream) {
    rest += decoder.decode(piece, { stream: true });
    for (let end = rest.indexOf('\n\n'); end >= 0; end = rest.indexOf('\n\n')) {
      const fields = new Map(
        rest
          .slice(0, end)
          .split('\n')
          .map((line) => {
            const colon = line.indexOf(': ');
            return [line.slice(0, colon), line.slice(colon + 2)] as const;
          }),
      );
      rest = rest.slice(end + 2);
      const name = fields.get('event');
      if (name !== undefined)
        yield { id: fields.get('id') ?? null, name, data: fields.get('data') ?? '' };
    }
  }
}
