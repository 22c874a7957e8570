import { AsyncLocalStorage } from 'node:async_hooks';
import type { Database } from '../../services/storage/database.ts';

/** Two acts on one record at the same time: one of them comes between each two steps of the other. */

/** How both ended. */
export interface Both<A, B> {
  readonly first: PromiseSettledResult<A>;
  readonly second: PromiseSettledResult<B>;
}

/** Two acts, what they begin with, and what must not be after them. */
export interface Acts<Scene, A, B> {
  prepare(): Promise<Scene>;
  first(scene: Scene): Promise<A>;
  second(scene: Scene): Promise<B>;
  /** What is wrong afterwards, or `null`. */
  wrong(both: Both<A, B>, scene: Scene): Promise<string | null>;
}

/** Does `second` before each step (a query, or a transaction) of `first`, each time on a scene of its own; what was wrong, and where. */
export const inEveryOrder = async <Scene extends { readonly db: Database }, A, B>({
  prepare,
  first,
  second,
  wrong,
}: Acts<Scene, A, B>): Promise<readonly string[]> => {
  const found: string[] = [];
  for (let at = 0; ; at += 1) {
    const scene = await prepare();
    try {
      const act = { first: () => first(scene), second: () => second(scene) };
      const both = await interleave(scene.db, at, act);
      if (both === null && at === 0) throw new Error('the first act has no steps');
      if (both === null) return found;
      const problem = await wrong(both, scene);
      if (problem !== null) found.push(`before step ${at}: ${problem}`);
    } finally {
      await scene.db.destroy();
    }
  }
};

/** Begins `first` and halts it before its step `at` until `second` has ended; `null` if it has not so many steps. */
const interleave = async <A, B>(
  db: Database,
  at: number,
  { first, second }: { first(): Promise<A>; second(): Promise<B> },
): Promise<Both<A, B> | null> => {
  const isFirst = new AsyncLocalStorage<true>();
  const executor = db.getExecutor();
  const provide = executor.provideConnection.bind(executor);
  let steps = 0;
  let ended: PromiseSettledResult<B> | null = null;
  executor.provideConnection = async (consumer, options) => {
    if (isFirst.getStore() === true && steps++ === at)
      [ended] = await isFirst.exit(() => Promise.allSettled([second()]));
    return provide(consumer, options);
  };
  const [result] = await isFirst.run(true, () => Promise.allSettled([first()]));
  executor.provideConnection = provide;
  return ended === null ? null : { first: result, second: ended };
};
