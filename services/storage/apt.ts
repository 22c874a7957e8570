import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { KilnError } from '../core/errors.ts';
import type { ArchivePackage, PackageArchive } from './package-archive.ts';

const OUTPUT_LIMIT = 64 * 1024 ** 2;
const TIME_LIMIT = 15 * 60_000;

/** Ends of what was begun last in each directory. */
const turns = new Map<string, Promise<unknown>>();

/** Runs a work when those begun before it in its directory have ended: apt's programs lock theirs, and fail where another one has it. */
const inTurn = <T>(directory: string, work: () => Promise<T>): Promise<T> => {
  const turn = (turns.get(directory) ?? Promise.resolve()).then(work);
  turns.set(
    directory,
    turn.catch(() => {}),
  );
  return turn;
};

/** Numbers in names count as numbers. */
const { compare } = new Intl.Collator('en', { numeric: true });

/**
 * Opens an archive through an apt of its own, in a directory of its own: nothing of the machine's is read or changed but its keyrings.
 * `sources` is a deb822 text (sources.list(5)).
 */
export const openApt = async (directory: string, sources: string): Promise<PackageArchive> => {
  await inTurn(directory, () => prepare(directory, sources));
  const configuration = configurationIn(directory);
  const options = [
    `Dir::Etc::sourcelist=${directory}/archive.sources`,
    'Dir::Etc::sourceparts=-',
    'Dir::Etc::preferences=/dev/null',
    'Dir::Etc::preferencesparts=/dev/null',
    `Dir::State::lists=${directory}/lists`,
    `Dir::State::status=${directory}/status`,
    `Dir::Cache=${directory}/cache`,
    'APT::Sandbox::User=root',
    'APT::Install-Recommends=false',
    'Acquire::AllowInsecureRepositories=false',
    'Acquire::Languages=none',
    'APT::Get::AllowUnauthenticated=false',
  ].flatMap((option) => ['-o', option]);

  const run = (program: string, args: readonly string[], cwd = directory): Promise<string> =>
    inTurn(directory, () => runNow(program, args, cwd));

  const runNow = async (program: string, args: readonly string[], cwd: string): Promise<string> => {
    try {
      const { stdout } = await promisify(execFile)(program, [...args, ...options], {
        cwd,
        maxBuffer: OUTPUT_LIMIT,
        timeout: TIME_LIMIT,
        env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C', APT_CONFIG: configuration },
      });
      return stdout;
    } catch (cause) {
      const words =
        cause instanceof Error && 'stderr' in cause ? String(cause.stderr) : String(cause);
      const [first = 'no words'] = words.split('\n').filter((line) => /^(E|W):/.test(line));
      const code = /signature|NO_PUBKEY|not signed/i.test(words) ? 'unverified' : 'unavailable';
      throw new KilnError(code, `${program} ${args[0] ?? ''} failed: ${first.slice(0, 300)}`, {
        cause,
      });
    }
  };

  const showAll: PackageArchive['showAll'] = async (names) => {
    if (names.length === 0) return [];
    const text = await run('apt-cache', ['show', '--no-all-versions', ...names]);
    return text.split('\n\n').flatMap((stanza) => packageIn(stanza) ?? []);
  };

  return {
    async update() {
      await run('apt-get', ['update', '-q', '--error-on=any']);
      return null;
    },
    async names() {
      const names = (await run('apt-cache', ['pkgnames'])).split('\n');
      return names.filter((name) => name !== '').sort(compare);
    },
    async show(name) {
      const [found] = await showAll([name]);
      if (found !== undefined) return found;
      throw new KilnError(
        'not-found',
        `the archive has no package ${name} any more; try again later`,
      );
    },
    showAll,
    async download(packages, use) {
      const place = await mkdtemp(join(directory, 'download-'));
      try {
        await run(
          'apt-get',
          ['download', '-q', ...packages.map(({ name, version }) => `${name}=${version}`)],
          place,
        );
        return await use((await readdir(place)).sort().map((name) => join(place, name)));
      } finally {
        await rm(place, { recursive: true, force: true });
      }
    },
  };
};

const configurationIn = (directory: string): string => join(directory, 'apt.conf');

const prepare = async (directory: string, sources: string): Promise<void> => {
  for (const part of ['lists/partial', 'cache/archives/partial'])
    await mkdir(join(directory, part), { recursive: true });
  await writeFile(join(directory, 'archive.sources'), sources);
  await writeFile(join(directory, 'status'), '');
  // The machine's own configuration may have hooks and pins.
  const configuration = 'Dir::Etc::Main "/dev/null";\nDir::Etc::Parts "/dev/null";\n';
  await writeFile(configurationIn(directory), configuration);
};

/** A package of which apt shows a stanza; `null` for one without a file. */
const packageIn = (stanza: string): ArchivePackage | null => {
  const field = (key: string): string => new RegExp(`^${key}: (.*)$`, 'm').exec(stanza)?.[1] ?? '';
  if (field('SHA256') === '') return null;
  const depends = field('Depends')
    .split(',')
    .map((each) => /^\s*([a-z0-9][a-z0-9.+-]*)/.exec(each)?.[1] ?? '')
    .filter((each) => each !== '');
  return { name: field('Package'), version: field('Version'), checksum: field('SHA256'), depends };
};
