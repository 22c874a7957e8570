import { cp, lstat, mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { freshDirectory } from './make-source.ts';
import { mustRun, type Ran } from './run.ts';

/** Links out of another root, planted where the client writes in it. Which paths these are, strace says. */

/** The commands of one host, in their order. What is refused on the way does not keep the next from being tried. */
export interface Life {
  readonly commands: readonly (readonly string[])[];
  /** A root before the first command, one of its own each time. */
  freshRoot(): Promise<string>;
  /** Runs a command on a root, under a tracer where one is given. */
  call(root: string, words: readonly string[], ...tracer: string[]): Promise<Ran>;
}

const CHANGES =
  /(?:open|creat|rename|unlink|mkdir|rmdir|link|chmod|chown|truncate|utime|mknod|setxattr)/;
/** depmod's names of files that are not whole yet: of its own process and moment. */
const OF_ONE_RUN = /\.\d+\.\d+\.\d+$/;
/** depmod writes its indexes all in the same way. */
const OTHER_INDEX = /\/modules\.(?!dep(\.kiln-old)?$)/;

/** The paths that a life changes, below the root, and how many of its commands it takes until then. */
export const changedPaths = async (life: Life): Promise<ReadonlyMap<string, number>> => {
  const root = await life.freshRoot();
  const paths = new Map<string, number>();
  for (const [index, words] of life.commands.entries()) {
    const log = join(await freshDirectory('trace'), 'log');
    const tracer = ['strace', '-f', '-qq', '-y', '-e', 'trace=%file,fchmod', '-o', log];
    await life.call(root, words, ...tracer);
    for (const line of (await readFile(log, 'utf8')).split('\n')) {
      const name = /^\d+ +(\w+)\(/.exec(line)?.[1] ?? '';
      if (!CHANGES.test(name) || name === 'readlink' || / = -1 /.test(line)) continue;
      if (name.startsWith('open') && !/O_WRONLY|O_RDWR|O_CREAT/.test(line)) continue;
      for (const [, at = '', path = ''] of line.matchAll(/(?:\b\w+<([^>]*)>, )?"([^"]*)"/g)) {
        const place = path.startsWith('/') ? path : join(at, path);
        const below = place.slice(root.length + 1);
        if (!place.startsWith(`${root}/`) || OF_ONE_RUN.test(below) || OTHER_INDEX.test(below))
          continue;
        for (const each of [below, ...ancestors(below)])
          if (!paths.has(each)) paths.set(each, index + 1);
      }
    }
  }
  return paths;
};

/**
 * Lives with a link out of the root at one of these paths, to a copy of what is there, up to the command after the one that changes
 * it. Gives what is outside, in one text, before and afterwards.
 */
export const liveWithLink = async (
  life: Life,
  paths: ReadonlyMap<string, number>,
  path: string,
): Promise<{ readonly before: string; readonly after: string }> => {
  const root = await life.freshRoot();
  const outside = await freshDirectory('outside');
  const place = join(root, path);
  const target = join(outside, 'target');
  const isDirectory = [...paths.keys()].some((each) => each.startsWith(`${path}/`));
  await mkdir(dirname(place), { recursive: true });
  if (await isThere(place)) await cp(place, target, { recursive: true, verbatimSymlinks: true });
  else if (isDirectory) await mkdir(target);
  else await writeFile(target, 'not of that root\n');
  await rm(place, { recursive: true, force: true });
  await symlink(target, place);
  const before = await stateOf(outside);
  for (const words of life.commands.slice(0, (paths.get(path) ?? 0) + 1))
    await life.call(root, words);
  return { before, after: await stateOf(outside) };
};

/** All that is in a directory, in one text. */
const stateOf = async (directory: string): Promise<string> =>
  mustRun(
    'sh',
    [
      '-c',
      'find . -printf "%P %y %m %T@ %l\\n" | sort; find . -type f -exec sha256sum {} + | sort',
    ],
    { cwd: directory },
  );

const isThere = (place: string): Promise<boolean> =>
  lstat(place).then(
    () => true,
    () => false,
  );

const ancestors = (path: string): string[] =>
  path
    .split('/')
    .slice(0, -1)
    .map((_, index, parts) => parts.slice(0, index + 1).join('/'));
