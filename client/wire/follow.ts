import { z } from 'zod';
import { isFinished } from '../../services/core/build/build-state.ts';
import { BuildView } from '../../services/core/protocol/build.ts';
import { KilnError } from '../../services/core/errors.ts';
import { CallFailed } from './fault.ts';
import { readPieces, understand, type Send } from './http.ts';
import { keepTrying, type Patience } from './retry.ts';

/** Callbacks for what happens to a build that is followed. */
export interface Follower {
  state(build: BuildView): void;
  log(text: string): void;
}

/**
 * Follows a build until it is finished, and gives it. A connection that breaks is made again and resumes there: no line of the log is
 * lost or repeated. Throws `CallFailed` when patience runs out.
 */
export const followBuild = async (
  send: Send,
  id: string,
  follower: Follower,
  patience: Patience,
): Promise<BuildView> => {
  const sent = { bytes: 0 };
  let lastEvent: string | null = null;
  return keepTrying(patience, true, async (progressed) => {
    const headers: Record<string, string> = { Accept: 'text/event-stream' };
    if (lastEvent !== null) headers['Last-Event-ID'] = lastEvent;
    const path = `/v1/builds/${id}/events`;
    const response = await send({ method: 'GET', path, headers, signal: patience.signal });
    for await (const event of readEvents(readPieces(response), sent)) {
      progressed();
      lastEvent = event.id ?? lastEvent;
      if (event.name === 'log') follower.log(understand(LogEvent, event.data).text);
      if (event.name !== 'state') continue;
      const build = understand(BuildView, event.data);
      follower.state(build);
      if (isFinished(build.state)) return build;
    }
    throw new CallFailed('unreachable', 'the service ended its report of the build; try again', {
      reason: 'the report of the build ended',
      mayPass: true,
      mayBeDone: true,
      wait: null,
    });
  });
};

/** Characters of one event: ample for a build with the modinfo of all its modules. */
const EVENT_LIMIT = 32 * 1024 ** 2;
/** Bytes of all events of one build, over all connections. */
const REPORT_LIMIT = 256 * 1024 ** 2;

const LogEvent = z.object({ text: z.string() });

interface ServerEvent {
  readonly id: string | null;
  readonly name: string;
  readonly data: string;
}

/** The events of a `text/event-stream`, as the service writes them. */
async function* readEvents(
  stream: AsyncIterable<Buffer>,
  sent: { bytes: number },
): AsyncGenerator<ServerEvent> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const piece of stream) {
    sent.bytes += piece.length;
    if (sent.bytes > REPORT_LIMIT)
      throw new KilnError(
        'too-large',
        `the service sent over ${REPORT_LIMIT} bytes about one build, and no end`,
      );
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
    if (rest.length > EVENT_LIMIT)
      throw new KilnError(
        'too-large',
        `the service sent over ${EVENT_LIMIT} characters as one event`,
      );
  }
}
