import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, mkdtemp, realpath, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { readHostText } from '../host/host-files.ts';
import { run } from '../host/programs.ts';
import { walk, type LocalEntry } from './tree.ts';

/**
 * The commit whose files a directory has, all of them and no others; `undefined` where there is no such commit. A record that names a
 * commit must mean that commit's bytes.
 *
 * The repository may be an attacker's: its configuration and attributes can make git run programs. So git is shown neither the
 * repository nor the directory. This code reads the commit's name and the place of its objects, has git list the commit's tree from an
 * empty repository of our own that borrows only those objects, and hashes the files itself.
 */
export const commitOf = async (directory: string): Promise<string | undefined> => {
  const place = await realpath(directory);
  if (!(await stat(place)).isDirectory()) return undefined;
  const checkout = await findCheckout(place);
  const commit = checkout === null ? null : await readHead(checkout);
  if (checkout === null || commit === null) return undefined;
  const listed = await listTree(checkout, commit, relative(checkout.top, place));
  return listed !== null && (await isExactly(place, listed, commit)) ? commit : undefined;
};

/** A checkout's top directory, and the two directories of its repository, which differ in a linked worktree (`git worktree`). */
interface Checkout {
  readonly top: string;
  readonly own: string;
  readonly common: string;
}

const THIS = { root: '/', runsPrograms: false };
const LINE_LIMIT = 4096;
const REFS_LIMIT = 16 * 1024 ** 2;
const LISTING_LIMIT = 64 * 1024 ** 2;

const findCheckout = async (place: string): Promise<Checkout | null> => {
  for (let top = place; ; top = dirname(top)) {
    const dot = join(top, '.git');
    const link = /^gitdir: (.+)$/.exec((await readHostText(THIS, dot, LINE_LIMIT)) ?? '')?.[1];
    const own = link === undefined ? dot : resolve(top, link);
    if ((await readHostText(THIS, join(own, 'HEAD'), LINE_LIMIT)) !== null) {
      const common = await readHostText(THIS, join(own, 'commondir'), LINE_LIMIT);
      return { top, own, common: resolve(own, common ?? '.') };
    }
    if (top === '/') return null;
  }
};

const COMMIT = /^([0-9a-f]{40}|[0-9a-f]{64})$/;

/** The commit that is checked out, or `null`. */
const readHead = async ({ own, common }: Checkout): Promise<string | null> => {
  const head = (await readHostText(THIS, join(own, 'HEAD'), LINE_LIMIT)) ?? '';
  const ref = /^ref: (refs\/[^\s\0]+)$/.exec(head)?.[1];
  if (ref === undefined) return COMMIT.test(head) ? head : null;
  const loose = await readHostText(THIS, join(common, ref), LINE_LIMIT);
  if (loose !== null) return COMMIT.test(loose) ? loose : null;
  const packed = (await readHostText(THIS, join(common, 'packed-refs'), REFS_LIMIT)) ?? '';
  const line = packed.split('\n').find((each) => each.endsWith(` ${ref}`));
  const commit = line?.split(' ')[0] ?? '';
  return COMMIT.test(commit) ? commit : null;
};

/** The files of a commit below a path: mode and object by path. `null` where git is not here, or does not know the commit. */
const listTree = async (
  { common }: Checkout,
  commit: string,
  path: string,
): Promise<ReadonlyMap<string, string> | null> => {
  const empty = await mkdtemp(join(tmpdir(), 'kiln-git-'));
  try {
    await mkdir(join(empty, 'refs'));
    await writeFile(join(empty, 'HEAD'), 'ref: refs/heads/none\n');
    await writeFile(
      join(empty, 'config'),
      `[core]\nrepositoryformatversion = 1\nbare = true\n[extensions]\nobjectformat = ${commit.length === 64 ? 'sha256' : 'sha1'}\n`,
    );
    const tree = `${commit}${path === '' ? '' : `:${path}`}`;
    const { status, stdout } = await run('git', ['ls-tree', '-r', '-z', '--full-tree', tree], {
      limit: LISTING_LIMIT,
      seconds: 60,
      cwd: empty,
      env: {
        GIT_DIR: empty,
        GIT_OBJECT_DIRECTORY: join(common, 'objects'),
        GIT_CONFIG_NOSYSTEM: '1',
        GIT_CONFIG_GLOBAL: '/dev/null',
        GIT_NO_REPLACE_OBJECTS: '1',
      },
    });
    if (status !== 0) return null;
    const entries = stdout.toString('utf8').split('\0').slice(0, -1);
    return new Map(
      entries.map((entry) => {
        const [facts = '', name = ''] = entry.split(/\t(.*)/s);
        const [mode = '', , object = ''] = facts.split(' ');
        return [name, `${mode} ${object}`];
      }),
    );
  } finally {
    await rm(empty, { recursive: true, force: true });
  }
};

/** Whether a directory's files are those listed, byte for byte, and no others. */
const isExactly = async (
  directory: string,
  listed: ReadonlyMap<string, string>,
  commit: string,
): Promise<boolean> => {
  const algorithm = commit.length === 64 ? 'sha256' : 'sha1';
  let count = 0;
  for await (const entry of walk(directory)) {
    count += 1;
    const expected = listed.get(entry.path);
    if (expected === undefined || expected !== `${modeOf(entry)} ${await hash(entry, algorithm)}`)
      return false;
  }
  return count > 0 && count === listed.size;
};

const modeOf = (entry: LocalEntry): string => {
  if (entry.kind === 'symlink') return '120000';
  return (entry.mode & 0o111) === 0 ? '100644' : '100755';
};

/** The name of git's object for a file's or link's content. */
const hash = async (entry: LocalEntry, algorithm: string): Promise<string> => {
  const hashing = createHash(algorithm);
  if (entry.kind === 'symlink') {
    const target = Buffer.from(entry.target);
    return hashing.update(`blob ${target.length}\0`).update(target).digest('hex');
  }
  hashing.update(`blob ${entry.size}\0`);
  await pipeline(createReadStream(entry.place), hashing);
  return hashing.digest('hex');
};
