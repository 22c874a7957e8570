import { z } from 'zod';
import { hexOf, toDigest, digest } from '../digest.ts';
import { KilnError } from '../errors.ts';
import type { ToolchainContents } from './measurement.ts';

/** The packages that a toolchain was made of: enough for `images/make-toolchain` to make it again, whatever Debian's archive has by then. */

const packageName = /^[a-z0-9][a-z0-9.+-]{0,99}$/;

/** A folder's `toolchain.json`, with those that it is added to. Its words become words of commands. */
export const ToolchainDescription = z.strictObject({
  name: z.string().min(1).max(64).optional(),
  suite: z.string().regex(/^[a-z0-9][a-z0-9.+-]{0,63}$/),
  packages: z.array(z.string().regex(packageName)).min(1).max(500),
  suffix: z
    .string()
    .regex(/^-[0-9.]{1,16}$/)
    .optional(),
});

/** A line of a `packages.lock`: a package by the name that dpkg gives it (`libc6:amd64`), and the digest of its `.deb`. */
const LockedPackage = z.strictObject({
  name: z.string().regex(/^[a-z0-9][a-z0-9.+-]{0,99}(:[a-z0-9]{1,20})?$/),
  version: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9.+:~-]{0,127}$/),
  digest,
});

/** What a toolchain was made of: its description, and each package. */
export const ToolchainPackages = z.strictObject({
  description: ToolchainDescription,
  packages: z.array(LockedPackage).min(1).max(2000),
});
/** Bytes of JSON that hold the most packages there may be. */
export const TOOLCHAIN_PACKAGES_LIMIT = 1024 ** 2;

export type ToolchainDescription = z.infer<typeof ToolchainDescription>;
export type LockedPackage = z.infer<typeof LockedPackage>;
export type ToolchainPackages = z.infer<typeof ToolchainPackages>;

/** Reads a `packages.lock`: `NAME VERSION SHA256`, one a line. Throws `bad-request`. */
export const parseLock = (text: string): readonly LockedPackage[] =>
  text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [, name, version, hex] = /^(\S+) (\S+) ([0-9a-f]{64})$/.exec(line) ?? [];
      const read = LockedPackage.safeParse({ name, version, digest: toDigest(hex ?? '') });
      if (read.success) return read.data;
      throw new KilnError(
        'bad-request',
        `${JSON.stringify(line.slice(0, 80))} is not a line of a packages.lock; each is NAME VERSION SHA256`,
      );
    });

/** Writes what `parseLock` reads. */
export const formatLock = (packages: readonly LockedPackage[]): string =>
  packages.map(({ name, version, digest: of }) => `${name} ${version} ${hexOf(of)}\n`).join('');

/** A package as its own control file, or a toolchain's measurement, names it. */
export type NamedPackage = ToolchainContents['packages'][number];

/** Reads a package's name, version and architecture from its control file (deb-control(5)). Throws `bad-tarball`. */
export const parseControl = (control: string): NamedPackage => {
  const field = (name: string): string =>
    new RegExp(`^${name}:[ \\t]*(\\S+)[ \\t]*$`, 'm').exec(control)?.[1] ?? '';
  const named = {
    name: field('Package'),
    version: field('Version'),
    arch: field('Architecture'),
  };
  if (Object.values(named).includes(''))
    throw new KilnError(
      'bad-tarball',
      'the Debian package lacks its name, version or architecture; download it again',
    );
  return named;
};

/** Where a toolchain has other packages than a lock names, in words; none where it has just those. */
export const differsFromLock = (
  has: readonly NamedPackage[],
  locked: readonly LockedPackage[],
): readonly string[] => {
  const inIt = new Set(has.map(({ name, version }) => `${name} ${version}`));
  const inLock = new Set(locked.map(({ name, version }) => `${plain(name)} ${version}`));
  return [
    ...[...inIt]
      .filter((each) => !inLock.has(each))
      .map((each) => `the toolchain has ${each}, which is missing`),
    ...[...inLock]
      .filter((each) => !inIt.has(each))
      .map((each) => `${each} is not in the toolchain`),
  ];
};

/** A package's name without the architecture that dpkg adds to some. */
export const plain = (name: string): string => name.replace(/:.*/, '');
