import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { mustRun } from './run.ts';
import { settle } from './settle.ts';
import { WORK } from './places.ts';

/** Parts of Debian's archive, through apt: this machine's own, and others that its apt is not set to. */

/** Where in the archive a package is; what is left out is as this machine has it: Debian 12's suite, and `main`. */
export interface Origin {
  readonly suite?: string;
  readonly component?: string;
}

/** The suite that this machine is expected to be of. */
const OWN_SUITE = 'bookworm';

/** The stanzas of this machine's apt that name Debian 12's archive. */
export const debianSources = async (): Promise<readonly string[]> => {
  const folder = '/etc/apt/sources.list.d';
  const texts = await Promise.all(
    (await readdir(folder))
      .filter((name) => name.endsWith('.sources'))
      .map((name) => readFile(join(folder, name), 'utf8')),
  );
  const stanzas = texts
    .flatMap((text) => text.split(/\n\s*\n/))
    .filter((stanza) => new RegExp(`^Suites:.*${OWN_SUITE}`, 'm').test(stanza));
  if (stanzas.length === 0)
    throw new Error(`no ${OWN_SUITE} in ${folder}; Debian 12’s sources must be set`);
  return stanzas;
};

/** A stanza of this machine's that names another part of the archive. */
const elsewhere = (stanza: string, { suite = OWN_SUITE, component = 'main' }: Origin): string =>
  stanza
    .replace(/^Suites:.*$/m, (line) => line.replaceAll(OWN_SUITE, suite))
    .replace(/^Components:.*$/m, `Components: ${component}`);

/** A part of the archive as sources.list(5) names it, in deb822. */
export const sourcesOf = async (origin: Origin): Promise<string> =>
  (await debianSources()).map((stanza) => elsewhere(stanza, origin)).join('\n\n');

/** Options with which apt's programs read the sources of a suite's packages. */
export const sourceOptions = (suite: string): Promise<readonly string[]> =>
  ownApt(join(WORK, 'debian', suite, 'apt-sources'), (stanza) =>
    elsewhere(stanza, { suite }).replace(/^Types:.*$/m, 'Types: deb-src'),
  );

/** Options for apt's programs with which they read a part of the archive: an apt of its own, made once, with the same keys. */
export const aptOptions = async (origin: Origin): Promise<readonly string[]> => {
  const { suite, component = 'main' } = origin;
  if (suite === undefined && component === 'main') return [];
  return ownApt(join(WORK, 'debian', suite ?? '', `apt-${component}`), (stanza) =>
    elsewhere(stanza, origin),
  );
};

/** Options for an apt of its own at a place, made once, that reads this machine's sources as `change` has them. */
const ownApt = async (
  place: string,
  change: (stanza: string) => string,
): Promise<readonly string[]> => {
  const optionsIn = (directory: string): readonly string[] =>
    [
      `Dir::Etc::sourcelist=${directory}/list.sources`,
      'Dir::Etc::sourceparts=-',
      `Dir::State::lists=${directory}/lists`,
      `Dir::Cache=${directory}/cache`,
    ].flatMap((option) => ['-o', option]);
  const isThere = await stat(place).then(
    () => true,
    () => false,
  );
  if (!isThere) {
    const arrival = `${place}.${process.pid}`;
    await mkdir(join(arrival, 'lists/partial'), { recursive: true });
    await mkdir(join(arrival, 'cache/archives/partial'), { recursive: true });
    const stanzas = await debianSources();
    await writeFile(join(arrival, 'list.sources'), stanzas.map(change).join('\n\n'));
    await mustRun('apt-get', ['update', '-q', ...optionsIn(arrival)]);
    await settle(arrival, place);
  }
  return optionsIn(place);
};
