import { KilnError } from '../../services/core/errors.ts';
import { table, type Context } from '../command.ts';
import type { Loaded } from '../install/load.ts';
import type { Granted } from '../install/wish.ts';

/**
 * Prints how each wish ended, and how loading did where that was asked for. Throws the first problem, which becomes the exit status:
 * `not-loaded` only where everything was installed.
 */
export const tellGranted = (
  context: Context,
  granted: readonly Granted[],
  seconds: number,
  loaded: readonly Loaded[] = [],
): void => {
  const done = granted.filter(({ receipt }) => receipt !== null);
  const failed = granted.flatMap(({ name, release, problem }) =>
    problem === null ? [] : [{ name, release, problem }],
  );
  const paths = done.flatMap(({ release, receipt }) =>
    (receipt?.modules ?? []).map(({ path }) => `/lib/modules/${release}/${path}`),
  );
  const rows = done.map(({ release, receipt, isCached }) => [
    `${receipt?.name ?? ''}/${receipt?.version ?? ''}`,
    release,
    receipt?.linkedFrom === null
      ? `installed (${isCached ? 'was there already' : 'built now'})`
      : `linked from ${receipt?.linkedFrom ?? ''}`,
  ]);
  const live = loaded.filter(({ problem }) => problem === null).map(({ module }) => module);
  const unloaded = loaded.flatMap(({ module, problem }) =>
    problem === null ? [] : [{ module, problem }],
  );
  context.progress.done();
  if (done.length > 0 || context.flag('json')) {
    const isLoaded = live.length === 0 ? '' : `\nloaded: ${live.join(' ')}`;
    const text = `${table(rows)}\n${paths.join('\n')}${isLoaded}\nafter ${seconds.toFixed(2)} s`;
    context.print(text, {
      installed: paths,
      cached: done.every(({ isCached }) => isCached),
      seconds,
      receipts: done.map(({ receipt }) => receipt),
      problems: failed.map(({ name, release, problem: { code, message } }) => ({
        name,
        release,
        code,
        message,
      })),
      loaded: live,
      notLoaded: unloaded,
    });
  }
  mustBeGranted(granted, failed);
  if (unloaded.length > 0)
    throw new KilnError('not-loaded', unloaded.map(({ problem }) => problem).join('\n  '));
};

const mustBeGranted = (
  granted: readonly Granted[],
  failed: readonly {
    readonly name: string;
    readonly release: string;
    readonly problem: KilnError;
  }[],
): void => {
  const [first] = failed;
  if (first === undefined) return;
  if (granted.length === 1) throw first.problem;
  const reasons = Map.groupBy(failed, ({ problem }) => problem.message);
  const lines = [...reasons].map(
    ([message, each]) =>
      `\n  ${each.map(({ name, release }) => `${name} for ${release}`).join(', ')}: ${message}`,
  );
  throw new KilnError(
    first.problem.code,
    `${failed.length} of ${granted.length} could not be installed:${lines.join('')}`,
  );
};
