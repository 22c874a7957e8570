import { appendFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { IssuedToken } from '../../services/core/protocol/token.ts';
import { wouldFetch, type AptHost } from '../machine/apt-host.ts';
import { aptOptions, sourcesOf } from '../machine/apt.ts';
import { newestRelease } from '../machine/debian.ts';
import { pinToolchain, startKiln, type KilnService } from '../machine/kiln-service.ts';
import { CHECKOUT, DKMS_TOOLCHAIN, WORK, madeToolchain } from '../machine/places.ts';
import { mustRun } from '../machine/run.ts';
import { NEEDS, installTimed, plainHost, setUpKiln, type Place } from './hosts.ts';
import { tryPackage, type Line } from './one-package.ts';
import { isWell, reportOf, type Needs, type Part } from './report.ts';

/**
 * Installs every `*-dkms` package of Debian 12 and 13 with apt, on a host with kiln-dkms and on one with dkms, a compiler and headers, and
 * compares outcomes, bytes and times; then purges it. What was tried is kept, so that an interrupted run goes on where it was.
 *
 * usage   npm run dkms-archive [-- --suite SUITE] [--only PACKAGE,…] [--again | --report]
 * output  a table in Markdown, also in test/dkms-archive/RESULTS.md; what apt said is in .kiln/dkms-archive/SUITE.log
 * exit    0 all packages are the same on both · 1 one is not, or is not tried yet
 */

const COMPONENTS = 'main contrib non-free non-free-firmware';
const SUITES = {
  bookworm: {
    toolchain: DKMS_TOOLCHAIN,
    kernels: String.raw`linux-headers-(?<release>6\.1\.0-\d+-(?<flavour>amd64))`,
    newest: () => newestRelease('amd64'),
  },
  trixie: {
    toolchain: madeToolchain('debian-13-gcc-14'),
    kernels: String.raw`linux-headers-(?<release>6\.12\.\d+\+deb13-(?<flavour>amd64))`,
    newest: () => newestRelease('amd64', '6.12 of Debian 13'),
  },
} as const;
type Suite = keyof typeof SUITES;
/** They bring no module: a helper of packagers, and what dkms's own package is tested with. */
const NO_MODULES = /^dh-dkms$|^dkms-.*test-dkms$/;
/** These take minutes: they come last, so that an interrupted run has most of the table. */
const LONG = /^(nvidia|openafs|zfs|ezurio)/;

const { values } = parseArgs({
  options: {
    suite: { type: 'string' },
    only: { type: 'string' },
    again: { type: 'boolean' },
    report: { type: 'boolean' },
  },
});
const say = (text: string): void => void process.stderr.write(`${text}\n`);
const home = join(WORK, 'dkms-archive');
await mkdir(home, { recursive: true });

const packagesOf = async (suite: Suite): Promise<readonly string[]> => {
  if (values.only !== undefined) return values.only.split(',');
  const options = await aptOptions({ suite, component: COMPONENTS });
  const names = (await mustRun('apt-cache', [...options, 'pkgnames'])).split('\n');
  const found = names.filter((name) => name.endsWith('-dkms') && !NO_MODULES.test(name)).sort();
  return [...found.filter((name) => !LONG.test(name)), ...found.filter((name) => LONG.test(name))];
};

/** What a run of a suite keeps: what the hosts need, and a line for each package that was tried. */
interface Kept {
  readonly needs?: Part['needs'];
  readonly line?: Line;
}

const keptOf = async (file: string, release: string): Promise<readonly Kept[]> => {
  const text = await readFile(file, 'utf8').catch(() => '');
  const all = text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Kept & { readonly release: string });
  return all.filter((each) => each.release === release);
};

const measureNeeds = async (host: AptHost, names: readonly string[]): Promise<Needs> => {
  const fetched = await wouldFetch(host, names);
  const { status, words, seconds } = await installTimed(host, names);
  if (status !== 0) throw new Error(`apt-get install ${names.join(' ')}: ${words}`);
  return { ...fetched, seconds };
};

const follow = async (kiln: KilnService, suite: Suite, names: readonly string[]): Promise<void> => {
  const { toolchain, kernels } = SUITES[suite];
  say('pinning the toolchain');
  await pinToolchain(kiln, toolchain);
  const sources = join(home, `${suite}.sources`);
  await writeFile(sources, await sourcesOf({ suite, component: COMPONENTS }));
  const modules = names.map((name) => name.replaceAll('.', String.raw`\.`)).join('|');
  say('following the archive');
  const what = ['--sources', sources, '--headers', kernels, '--modules', modules];
  await kiln.json('archive', 'add', suite, ...what);
  const { problems } = await kiln.json<{ problems: unknown[] }>('kernel', 'sync', '--wait');
  if (problems.length > 0) say(`the archive: ${JSON.stringify(problems, null, 2)}`);
};

const trySuite = async (suite: Suite): Promise<Part | null> => {
  const place: Place = { suite, release: await SUITES[suite].newest() };
  const { release } = place;
  const file = join(home, `${suite}.jsonl`);
  if (values.again === true) await rm(file, { force: true });
  const names = await packagesOf(suite);
  let kept = await keptOf(file, release);
  const keep = async (each: Kept): Promise<void> => {
    kept = [...kept, each];
    await appendFile(file, `${JSON.stringify({ release, ...each })}\n`);
  };
  const isKept = (name: string): boolean => kept.some(({ line }) => line?.package === name);
  const todo = names.filter((name) => !isKept(name));
  if (values.report !== true && todo.length > 0) {
    const kiln = await startKiln(join(home, suite), {
      KILN_LOG_LEVEL: 'warn',
      KILN_BUILD_SECONDS: '3600',
    });
    try {
      await follow(kiln, suite, todo);
      const token = await kiln.json<IssuedToken>('token', 'create', 'dkms-archive', '--role', 'ci');
      say('making the hosts');
      const hosts = {
        kiln: await plainHost(place, join(home, `${suite}-kiln`)),
        dkms: await plainHost(place, join(home, `${suite}-dkms`)),
      };
      await keep({
        needs: {
          kiln: await measureNeeds(hosts.kiln, NEEDS.kiln()),
          dkms: await measureNeeds(hosts.dkms, NEEDS.dkms(place)),
        },
      });
      await setUpKiln(hosts.kiln, kiln.url, token.secret);
      for (const name of todo) {
        say(`${names.indexOf(name) + 1}/${names.length} ${name}`);
        const line = await tryPackage(place, name, hosts, async (text) =>
          appendFile(join(home, `${suite}.log`), text),
        );
        say(
          `  ${isWell(line) ? 'well' : 'NOT WELL'}: kiln-dkms ${line.kiln.outcome} in ${line.kiln.seconds.toFixed(1)} s, dkms ${line.dkms.outcome} in ${line.dkms.seconds.toFixed(1)} s`,
        );
        await keep({ line });
      }
    } finally {
      await kiln.stop();
    }
  }
  const needs = kept.findLast((each) => each.needs !== undefined)?.needs;
  const lines = names.flatMap(
    (name) => kept.findLast(({ line }) => line?.package === name)?.line ?? [],
  );
  return needs === undefined ? null : { ...place, needs, lines };
};

const parts: Part[] = [];
for (const suite of values.suite === undefined ? Object.keys(SUITES) : [values.suite]) {
  const part = await trySuite(suite as Suite);
  if (part !== null) parts.push(part);
}
const HEAD = `# Debian’s *-dkms packages, unchanged

Every package is installed with \`apt-get\` on two hosts, of a kernel’s package and little else: one with kiln-dkms, one with dkms, a compiler
and headers. Modules are compared without signature and compression. apt’s seconds are without fetching. Then it is purged; what that leaves
behind on the host with kiln-dkms is told. Written by \`npm run dkms-archive\`.

`;
const text = parts.map(reportOf).join('\n');
process.stdout.write(text);
if (values.only === undefined)
  await writeFile(join(CHECKOUT, 'test/dkms-archive/RESULTS.md'), `${HEAD}${text}`);
process.exit(parts.every(({ lines }) => lines.every(isWell)) ? 0 : 1);
