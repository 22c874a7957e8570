import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { freshDirectory } from './make-source.ts';
import { mustRun } from './run.ts';

/** An OpenPGP key with which a distribution that a test makes signs. */
export interface SigningKey {
  /** GnuPG's directory, in which the key is the only one. */
  readonly home: string;
  /** The public key, as distributions give it out: ASCII-armored. */
  readonly armored: string;
  /** The same as apt and gpgv take it. */
  readonly binary: string;
}

const gpg = (home: string, ...args: readonly string[]): Promise<string> =>
  mustRun('gpg', ['--homedir', home, '--batch', '--yes', '--quiet', '--passphrase', '', ...args]);

/** Makes a key, of long ago where it is said until when it holds (a day, as 2020-01-01). No agent stays behind. */
export const makeKey = async (owner: string, until = 'never'): Promise<SigningKey> => {
  const home = await freshDirectory('gnupg');
  const [armored, binary] = [join(home, 'key.asc'), join(home, 'key.gpg')];
  const words = ['--quick-gen-key', `${owner} <archive@example.org>`, 'rsa2048', 'sign', until];
  await gpg(home, ...(until === 'never' ? [] : at('2018-01-01')), ...words);
  await gpg(home, '--armor', '--output', armored, '--export');
  await gpg(home, '--output', binary, '--export');
  await endAgent(home);
  return { home, armored, binary };
};

/** GnuPG starts an agent for each directory by itself. */
const endAgent = (home: string): Promise<string> =>
  mustRun('gpgconf', ['--homedir', home, '--kill', 'all']);

/** Signs a text within itself, as apt's `InRelease` is; the signed text. */
export const signText = async ({ home }: SigningKey, text: string): Promise<string> => {
  const file = join(await freshDirectory('signed'), 'text');
  await writeFile(file, text);
  await gpg(home, '--output', `${file}.asc`, '--clearsign', file);
  await endAgent(home);
  return readFile(`${file}.asc`, 'utf8');
};

/** GnuPG's clock, on a day. */
const at = (day: string): readonly string[] => [
  '--faked-system-time',
  `${day.replaceAll('-', '')}T000000`,
];

/** Signs a file beside it (`FILE.asc`), as `repomd.xml` is; today, or on another day. */
export const signFile = async (
  { home }: SigningKey,
  file: string,
  day: string | null = null,
): Promise<void> => {
  const words = ['--armor', '--output', `${file}.asc`, '--detach-sign', file];
  await gpg(home, ...(day === null ? [] : at(day)), ...words);
  await endAgent(home);
};

/** Signs RPM packages in themselves. */
export const signPackages = async (
  { home }: SigningKey,
  packages: readonly string[],
): Promise<void> => {
  // Debian's rpm looks for gpg2.
  const defined = ['_gpg_name archive@example.org', `_gpg_path ${home}`, '__gpg /usr/bin/gpg'];
  await mustRun('rpmsign', [
    '--addsign',
    ...defined.flatMap((definition) => ['--define', definition]),
    ...packages,
  ]);
  await endAgent(home);
};
