import { appendFile, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { IssuedToken } from '../../services/core/protocol/token.ts';
import { wouldFetch, type AptHost } from '../machine/apt-host.ts';
import { releasesOf } from '../machine/debian.ts';
import { startKiln, type KilnService } from '../machine/kiln-service.ts';
import { CHECKOUT, WORK } from '../machine/places.ts';
import { NEEDS, installTimed, plainHost, setUpKiln, type Place } from './hosts.ts';
import { openStore, type Store } from './kept.ts';
import { groupsOf, tryLife, type Life } from './life.ts';
import { tryPackage, type Line } from './one-package.ts';
import { isWell, reportOf, type Needs, type Part } from './report.ts';
import { SUITES, follow, packagesOf, type Suite } from './suites.ts';

/**
 * Installs every `*-dkms` package of Debian 12 and 13 with apt, on a host with kiln-dkms and on one with dkms, a compiler and headers, and
 * compares outcomes, bytes and times; then purges it. Then all that can be together are, on a host that gets a newer kernel and newer
 * versions of them. What was tried is kept in test/dkms-archive/lines, in the repository: it takes hours, so that a run goes on where another
 * was, on any machine.
 *
 * usage   npm run dkms-archive [-- --suite SUITE] [--only PACKAGE,…] [--again | --report]
 *         --only: these packages alone, and none together
 * output  a table in Markdown, also in test/dkms-archive/RESULTS.md; what apt said is in .kiln/dkms-archive/SUITE.log
 * exit    0 all packages are the same on both · 1 one is not
 */

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
const HERE = join(CHECKOUT, 'test/dkms-archive');
await mkdir(join(HERE, 'lines'), { recursive: true });

/** Installs what is needed for modules at all, and says what that takes. */
const meet = async (host: AptHost, names: readonly string[]): Promise<Needs> => {
  const fetched = await wouldFetch(host, names);
  const { status, words, seconds } = await installTimed(host, names);
  if (status !== 0) throw new Error(`apt-get install ${names.join(' ')}: ${words}`);
  return { ...fetched, seconds };
};

/** A host with kiln-dkms that is set up for the service. */
const kilnHost = async (
  kiln: KilnService,
  place: Place,
  root: string,
): Promise<{ readonly host: AptHost; readonly needs: Needs }> => {
  const host = await plainHost(place, join(home, root));
  const needs = await meet(host, NEEDS.kiln());
  const { secret } = await kiln.json<IssuedToken>('token', 'create', root, '--role', 'ci');
  await setUpKiln(host, kiln.url, secret);
  return { host, needs };
};

type Log = (text: string) => Promise<void>;

/** Each package alone, on both hosts. */
const tryEach = async (
  kiln: KilnService,
  place: Place,
  todo: readonly string[],
  store: Store,
  log: Log,
): Promise<void> => {
  say('making the hosts');
  const ours = await kilnHost(kiln, place, `${place.suite}-kiln`);
  const theirs = await plainHost(place, join(home, `${place.suite}-dkms`));
  await store.keep({ needs: { kiln: ours.needs, dkms: await meet(theirs, NEEDS.dkms(place)) } });
  for (const [index, name] of todo.entries()) {
    say(`${index + 1}/${todo.length} ${name}`);
    const line = await tryPackage(place, name, { kiln: ours.host, dkms: theirs }, log);
    const verdict = isWell(line) ? 'well' : 'NOT WELL';
    say(
      `  ${verdict}: kiln-dkms ${line.kiln.outcome} in ${line.kiln.seconds.toFixed(1)} s, dkms ${line.dkms.outcome} in ${line.dkms.seconds.toFixed(1)} s`,
    );
    await store.keep({ line });
  }
};

/** What was built, together, on a host with an older kernel. */
const tryTogether = async (
  kiln: KilnService,
  place: Place,
  older: string,
  lines: readonly Line[],
  log: Log,
): Promise<readonly Life[]> => {
  const { host } = await kilnHost(kiln, { ...place, release: older }, `${place.suite}-life`);
  const built = lines.filter((line) => line.kiln.outcome === 'built');
  const names = built.map((line) => line.package);
  const lives: Life[] = [];
  for (const group of await groupsOf(host, names)) {
    say(`together: ${group.join(' ')}`);
    const those = built.filter((line) => group.includes(line.package));
    const life = await tryLife(place, older, host, those, log);
    for (const problem of life.problems) say(`  NOT WELL: ${problem}`);
    lives.push(life);
  }
  return lives;
};

const trySuite = async (suite: Suite): Promise<Part | null> => {
  const [release = '', older = ''] = await releasesOf('amd64', SUITES[suite].series);
  const file = join(HERE, 'lines', `${suite}.jsonl`);
  if (values.again === true) await rm(file, { force: true });
  const store = await openStore(file, release);
  const names = values.only?.split(',') ?? (await packagesOf(suite));
  const linesOf = (): readonly Line[] => names.flatMap((name) => store.line(name) ?? []);
  const todo = names.filter((name) => store.line(name) === undefined);
  const isTogether = values.only === undefined && store.lives() === undefined;
  if (values.report !== true && (todo.length > 0 || isTogether)) {
    const kiln = await startKiln(join(home, suite), {
      KILN_LOG_LEVEL: 'warn',
      KILN_BUILD_SECONDS: '3600',
    });
    const log: Log = (text) => appendFile(join(home, `${suite}.log`), text);
    try {
      say(`following the archive of ${suite}`);
      for (const problem of await follow(kiln, suite, names)) say(JSON.stringify(problem));
      if (todo.length > 0) await tryEach(kiln, { suite, release }, todo, store, log);
      if (isTogether) {
        const lives = await tryTogether(kiln, { suite, release }, older, linesOf(), log);
        await store.keep({ lives });
      }
    } finally {
      await kiln.stop();
    }
  }
  const needs = store.needs();
  if (needs === undefined) return null;
  return { suite, release, needs, lines: linesOf(), lives: store.lives() ?? [] };
};

const HEAD = `# Debian’s *-dkms packages, unchanged

Every package is installed with \`apt-get\` on two hosts, of a kernel’s package and little else: one with kiln-dkms, one with dkms, a compiler
and headers. Modules are compared without signature and compression. apt’s seconds are without fetching. Then it is purged; what that leaves
behind on the host with kiln-dkms is told. Written by \`npm run dkms-archive\`.

`;

const suites = values.suite === undefined ? Object.keys(SUITES) : [values.suite];
const parts: Part[] = [];
for (const suite of suites) {
  const part = await trySuite(suite as Suite);
  if (part !== null) parts.push(part);
}
const text = parts.map(reportOf).join('\n');
process.stdout.write(text);
if (values.only === undefined && values.suite === undefined)
  await writeFile(join(HERE, 'RESULTS.md'), `${HEAD}${text}`);
const areWell = parts.every(
  ({ lines, lives }) => lines.every(isWell) && lives.every(({ problems }) => problems.length === 0),
);
process.exit(areWell ? 0 : 1);
