import { inTurn } from '../../storage/alone.ts';
import type { CoordinatorDeps } from './coordinator-deps.ts';
import { createChannels, type ChannelDeps } from './channels.ts';
import { createIndexes, PAUSE, type IndexDeps, type IndexOutcome } from './indexes.ts';

/** Keeps the repositories as the record is: packages are made of what is published, put in their channels, and the signer writes the index. */
export interface Publishing {
  /** Looks at what is published, soon. */
  poke(): void;
  /** Gives what is in `staging` to all: of one source, or of all that are published. Throws `not-found` where there is nothing. */
  promote(source: string | null): Promise<void>;
  /** Takes the signer's outcome in; false if it changes nothing. */
  take(outcome: IndexOutcome): Promise<boolean>;
  /** Looks again where it is time to, and for lost jobs. */
  sweep(): Promise<void>;
  /** Waits for the look under way to end. */
  settled(): Promise<void>;
}

export type PublishingDeps = CoordinatorDeps & ChannelDeps & IndexDeps;

const nothing = (): undefined => undefined;

export const createPublishing = (deps: PublishingDeps): Publishing => {
  const { now, log } = deps;
  const channels = createChannels(deps);
  const indexes = createIndexes(deps);
  // What changed while nobody looked is looked for at the start.
  let isWanted = true;
  let isBegun = false;
  let lookedAt = 0;
  let underWay: Promise<void> = Promise.resolve();

  const look = async (): Promise<void> => {
    while (isWanted) {
      isWanted = false;
      lookedAt = now();
      await channels.fill();
      await indexes.ask();
    }
  };

  /** One after the other: what is in a channel is read, and written, by one at a time. */
  const oneByOne = <T>(act: () => Promise<T>): Promise<T> => {
    const turn = underWay.then(() => inTurn(deps.db, 'publishing', act));
    underWay = turn.then(nothing, nothing);
    return turn;
  };
  const begin = (): void => {
    if (isBegun) return;
    isBegun = true;
    oneByOne(async () => {
      isBegun = false;
      await look();
    }).catch((error: unknown) => {
      isBegun = false;
      log.warn({ err: error }, 'publishing');
    });
  };
  const poke = (): void => {
    isWanted = true;
    begin();
  };

  return {
    poke,
    settled: () => underWay,
    take: (outcome) => indexes.take(outcome),
    promote: (source) =>
      oneByOne(async () => {
        await channels.promote(source);
        poke();
      }),
    async sweep() {
      if (isWanted || now() - lookedAt > PAUSE) poke();
      await indexes.sweep();
    },
  };
};
