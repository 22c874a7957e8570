import type { ReadyToolchain } from '../toolchain/toolchain.ts';
import { compareVersions } from '../source/source-version.ts';
import type { PackageFormat } from './plan.ts';

/** The packages of a toolchain that pack a format, each in the version from which on it can be told what Kiln tells it. */
const PACKERS: Readonly<Record<PackageFormat, Readonly<Record<string, string>>>> = {
  // --threads-max, without which the bytes hang on the number of processors.
  deb: { dpkg: '1.21.9', 'xz-utils': '5.2' },
  rpm: { rpm: '4.16' },
  kmp: { rpm: '4.16' },
  // Kiln writes these itself.
  sysext: {},
  oci: {},
};

/** Whether the bytes of a format’s packages follow from their plan alone, without a packer. */
export const isComposed = (format: PackageFormat): boolean =>
  Object.keys(PACKERS[format]).length === 0;

/** What a toolchain needs to pack a format, in words. */
export const packersOf = (format: PackageFormat): string =>
  Object.entries(PACKERS[format])
    .map(([name, version]) => `${name} ${version}`)
    .join(' and ');

/** The toolchain that packs a format: of those that can, the one whose name comes first, so that it is the same one everywhere. */
export const choosePacker = (
  format: PackageFormat,
  toolchains: readonly ReadyToolchain[],
): ReadyToolchain | null => {
  const able = toolchains.filter(({ contents }) =>
    Object.entries(PACKERS[format]).every(([name, least]) =>
      contents.packages.some(
        (each) => each.name === name && compareVersions(each.version, least) >= 0,
      ),
    ),
  );
  return able.toSorted((one, other) => (one.name < other.name ? -1 : 1))[0] ?? null;
};
