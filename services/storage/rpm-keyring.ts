import { execFile } from 'node:child_process';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { KilnError, hasErrno } from '../core/errors.ts';
import { dearmorKeys } from '../core/format/armor.ts';
import type { AnnouncedPackage } from '../core/kernel/rpm-metadata.ts';

/** The public keys of one RPM repository, and what they vouch for. */
export interface RpmKeyring {
  /** Throws `unverified` unless `signature` is one of these keys' over the file, and nobody else's. */
  checkFile(file: string, signature: string): Promise<void>;
  /** Throws `unverified` unless a package, header and payload, is signed by one of these keys, and is the one that was announced. */
  checkPackage(file: string, announced: AnnouncedPackage): Promise<void>;
}

const KEY_LIMIT = 1024 ** 2;
const OUTPUT_LIMIT = 1024 ** 2;
const TIME_LIMIT = 5 * 60_000;

/** Which Debian package has a program. */
const PACKAGES = { gpgv: 'gpgv', rpm: 'rpm', rpmkeys: 'rpm' } as const;

/** The keys in files, for GnuPG's gpgv and RPM's rpmkeys, in a directory that is empty. Throws `unavailable`, `unverified`. */
export const openRpmKeyring = async (
  directory: string,
  keys: readonly string[],
): Promise<RpmKeyring> => {
  const run = (
    program: keyof typeof PACKAGES,
    ...args: readonly string[]
  ): Promise<{ readonly isWell: boolean; readonly output: string }> =>
    new Promise((resolve, reject) => {
      const options = {
        cwd: directory,
        maxBuffer: OUTPUT_LIMIT,
        timeout: TIME_LIMIT,
        // Nobody's own settings count.
        env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C', HOME: directory },
      };
      const child = execFile(program, args, options, (error, output) => {
        if (!hasErrno(error, 'ENOENT')) return resolve({ isWell: error === null, output });
        return reject(
          new KilnError(
            'unavailable',
            `the program ${program} is missing on the service; the admin installs ${PACKAGES[program]}`,
            { cause: error },
          ),
        );
      });
      child.stdin?.end();
    });

  const [bundle, database] = [join(directory, 'keys.gpg'), join(directory, 'rpm')];
  const bytes: Buffer[] = [];
  for (const file of keys) {
    const key = dearmorKeys(await readKey(file));
    if (key.length === 0)
      throw new KilnError(
        'unverified',
        `the archive’s gpgkey ${file} has no public key (-----BEGIN PGP PUBLIC KEY BLOCK-----)`,
      );
    bytes.push(key);
    if (!(await run('rpmkeys', '--dbpath', database, '--import', file)).isWell)
      throw new KilnError('unverified', `rpmkeys does not take the archive’s gpgkey ${file}`);
  }
  await writeFile(bundle, Buffer.concat(bytes));

  return {
    async checkFile(file, signature) {
      const trusted = ['--homedir', directory, '--keyring', bundle, '--weak-digest', 'SHA1'];
      const { isWell, output } = await run('gpgv', '--status-fd=1', ...trusted, signature, file);
      // gpgv is content with a key that has expired.
      if (isWell && /^\[GNUPG:\] GOODSIG /m.test(output)) return;
      const words = /^\[GNUPG:\] ((?:BAD|ERR|EXP|EXPKEY|REVKEY)SIG|NO_PUBKEY|NODATA|FAILURE)/m;
      throw new KilnError(
        'unverified',
        `${basename(file)} is not signed by a key of the archive’s gpgkey (${words.exec(output)?.[1] ?? 'no signature'})`,
      );
    },
    async checkPackage(file, announced) {
      // A signature of the header alone counts only with a digest of the payload within it: that is RPM's level "all".
      const all = ['--define', '_pkgverify_level all', '--define', '_pkgverify_flags 0x0'];
      const check = ['--dbpath', database, '--checksig', ...all, file];
      const { isWell, output } = await run('rpmkeys', ...check);
      const name = basename(file);
      if (!isWell)
        throw new KilnError(
          'unverified',
          `${name} is not signed by a key of the archive’s gpgkey (rpmkeys: ${
            output
              .slice(output.lastIndexOf(': ') + 2)
              .trim()
              .slice(0, 100) || 'no words'
          })`,
        );
      const { name: plain, epoch, version, release, arch } = announced;
      const expected = [plain, epoch, version, release, arch].join(' ');
      const format = '%{NAME} %{EPOCHNUM} %{VERSION} %{RELEASE} %{ARCH}';
      const is = await run('rpm', '--dbpath', database, '-qp', '--qf', format, file);
      if (!is.isWell || is.output !== expected)
        throw new KilnError(
          'unverified',
          `the package that the metadata calls ${expected} is signed as ${is.output.slice(0, 200)}: somebody passes one off as another`,
        );
    },
  };
};

const readKey = async (file: string): Promise<string> => {
  try {
    const { size } = await stat(file);
    if (size > KEY_LIMIT) throw new Error('it is over 1 MiB');
    return await readFile(file, 'latin1');
  } catch (cause) {
    throw new KilnError(
      'unavailable',
      `the archive’s gpgkey ${file} cannot be read on the service’s machine`,
      { cause },
    );
  }
};
