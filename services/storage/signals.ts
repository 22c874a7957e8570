import { EventEmitter } from 'node:events';
import { seal, unseal, type Identity, type Senders } from '../core/jobs/envelope.ts';
import { KilnError } from '../core/errors.ts';
import { connectRedis, type RedisAddress } from './redis.ts';

/** A piece of a running build's log. `id` orders pieces and is where a follower goes on. */
export interface LogPiece {
  readonly id: string;
  readonly text: string;
}

/**
 * What is said between the roles while a build runs and need not outlive it: that a build changed, that it is to
 * be cancelled, and its log so far. Nothing here is needed to finish a build.
 */
export interface Signals {
  announce(build: string): Promise<void>;
  /** Calls back when a build changed or its log grew; the result ends that. */
  onChange(build: string, listener: () => void): () => void;
  cancel(run: string): Promise<void>;
  isCancelled(run: string): Promise<boolean>;
  onCancel(run: string, listener: () => void): () => void;
  appendLog(build: string, run: string, text: string): Promise<void>;
  /** Says that a run's log is whole and stored: the pieces that followers read go soon. */
  endLog(run: string): Promise<void>;
  readLog(run: string, after: string, count: number): Promise<readonly LogPiece[]>;
  /** Says, for some seconds, that a builder runs so many builds at once. */
  offerSlots(builder: string, slots: number): Promise<void>;
  /** How many builds all builders run at once; 0 where none has said so. */
  slots(): Promise<number>;
  /** Rejects if Redis does not answer within `milliseconds`. */
  ping(milliseconds: number): Promise<void>;
  close(): void;
}

/** Who may cancel: the coordinator. It writes with its key, and builders know that. */
export type CancelKeys =
  | { readonly kind: 'writes'; readonly own: Identity }
  | { readonly kind: 'reads'; readonly senders: Senders };

/** The longest piece of a log, in characters. A piece is a tenth of a second's output; a longer one may be anybody's, and is cut. */
const PIECE_LIMIT = 1024 * 1024;
/** The longest signal, in characters: more than a signed cancellation takes. */
const CANCEL_LIMIT = 1024;
const LOG_PIECES = 20_000;
const LOG_SECONDS = 3600;
const ENDED_LOG_SECONDS = 60;
/** Seconds after which a builder counts as gone; one that is there says so every few seconds. */
const OFFER_SECONDS = 20;
const SLOTS_OF_ONE = 1000;

/** Opens the signals below `prefix`. A run is what `runName` says. */
export const openSignals = async (
  address: RedisAddress,
  prefix: string,
  keys: CancelKeys,
): Promise<Signals> => {
  const redis = connectRedis(address);
  const ears = connectRedis(address);
  const heard = new EventEmitter();
  heard.setMaxListeners(0);
  const channels = { changed: `${prefix}:changed`, cancelled: `${prefix}:cancelled` };
  ears.on('message', (channel, what) => heard.emit(`${channel} ${what}`));
  await ears.subscribe(...Object.values(channels));

  const on = (event: string, listener: () => void): (() => void) => {
    heard.on(event, listener);
    return () => heard.off(event, listener);
  };
  const slotsKey = `${prefix}:slots`;
  const logKey = (run: string): string => `${prefix}:log:${run}`;
  const cancelKey = (run: string): string => `${prefix}:cancel:${run}`;
  const senders: Senders =
    keys.kind === 'reads' ? keys.senders : new Map([[keys.own.id, keys.own.publicKey]]);
  const isCancelled = async (run: string): Promise<boolean> => {
    const text = await redis.getrange(cancelKey(run), 0, CANCEL_LIMIT);
    try {
      return (
        text !== '' && unseal(JSON.parse(text), { place: 'cancel', name: run }, senders) !== null
      );
    } catch {
      return false;
    }
  };

  return {
    async announce(build) {
      await redis.publish(channels.changed, build);
    },
    onChange: (build, listener) => on(`${channels.changed} ${build}`, listener),
    async cancel(run) {
      if (keys.kind !== 'writes')
        throw new KilnError('internal', 'only the coordinator may cancel a run');
      const word = JSON.stringify(seal('', { place: 'cancel', name: run }, keys.own));
      await redis.set(cancelKey(run), word, 'EX', 24 * 3600);
      await redis.publish(channels.cancelled, run);
    },
    isCancelled,
    onCancel: (run, listener) =>
      on(`${channels.cancelled} ${run}`, () => {
        void isCancelled(run).then(
          (isIt) => isIt && listener(),
          () => {},
        );
      }),
    async appendLog(build, run, text) {
      await redis
        .multi()
        .xadd(logKey(run), 'MAXLEN', '~', LOG_PIECES, '*', 'text', text)
        .expire(logKey(run), LOG_SECONDS)
        .publish(channels.changed, build)
        .exec();
    },
    async endLog(run) {
      await redis.expire(logKey(run), ENDED_LOG_SECONDS);
    },
    async readLog(run, after, count) {
      const pieces = await redis.xrange(logKey(run), `(${after}`, '+', 'COUNT', count);
      return pieces.map(([id, fields]) => ({ id, text: (fields[1] ?? '').slice(0, PIECE_LIMIT) }));
    },
    async offerSlots(builder, slots) {
      const [seconds] = await redis.time();
      await redis.hset(slotsKey, builder, `${slots} ${seconds}`);
    },
    async slots() {
      const [seconds] = await redis.time();
      const offers = Object.values(await redis.hgetall(slotsKey)).map((offer) =>
        offer.split(' ').map(Number),
      );
      return offers
        .filter(([, at = 0]) => Number(seconds) - at < OFFER_SECONDS)
        .reduce((sum, [slots = 0]) => sum + Math.min(slots, SLOTS_OF_ONE), 0);
    },
    async ping(milliseconds) {
      const late = new Promise<never>((_, reject) => {
        setTimeout(() => reject(new Error('Redis does not answer')), milliseconds).unref();
      });
      await Promise.race([redis.ping(), late]);
    },
    close() {
      redis.disconnect();
      ears.disconnect();
    },
  };
};
