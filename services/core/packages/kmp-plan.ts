import { KilnError } from '../errors.ts';
import { flavourOf as flavourToLinkIn } from '../module/weak-updates.ts';
import { bringsSettings, contentOf } from './contents.ts';
import type { Kabi } from './kabi.ts';
import { dividedVersion, flavourOf, kernelWord, packageWord, rpmFlavourOf } from './names.ts';
import type { PackagePlan, PlannedFile, RpmHeader } from './plan.ts';
import { licenseOf } from './rpm-license.ts';
import { documents, rpmPlan, settingsName, singleDots, sourceName } from './rpm-plan.ts';
import { itselfOf, packageOf, wrapped } from './rpm-spec.ts';
import type { ModulesSubject, PackageSubject } from './subject.ts';

/**
 * RPM packages of modules that track the kABI: one serves every kernel whose CRCs agree (sources: SUSE's Kernel Module Packages Manual,
 * `kernel-module-subpackage` and `find-requires.ksyms`; Enterprise Linux's `kmodtool` and `find-requires.ksyms`).
 */

/** Where lists of symbols lie, for who links modules on other kernels. */
const LISTS = '/usr/lib/kiln-modules/kabi';
/** The version of `kiln-modules-common` from which on it links. */
const LINKS_SINCE = '3';

/** What is in such a package. Settings, and what all packages need, are as among other RPM packages. Throws `KilnError('conflict')`. */
export const kmpPlan = (subject: PackageSubject): PackagePlan => {
  switch (subject.kind) {
    case 'settings':
    case 'common':
      return { ...rpmPlan(subject), format: 'kmp' };
    case 'flavour':
      throw new KilnError('conflict', 'a kmp is called after its flavour itself; none follows one');
    case 'modules': {
      const kabi = kabiOf(subject);
      const header = headerOf(subject, kabi);
      const files = [
        ...contentOf(subject).map((file) => ({ ...file, place: placeOf(file.place, subject) })),
        ...documents(subject, header.name),
        preferenceOf(subject, header.name),
        listOf(subject, kabi, header.name),
      ];
      return packageOf('kmp', header, files);
    }
  }
};

const kabiOf = ({ source, needs, kabi }: ModulesSubject): Kabi => {
  if (needs.length > 0)
    throw new KilnError(
      'conflict',
      `no kmp can be made of ${source.name}, which is built against ${needs.join(', ')}: a kernel's symbols do not say which of these it has; make an rpm of it`,
    );
  if (kabi === undefined)
    throw new KilnError(
      'conflict',
      `no kmp can be made of ${source.name} without what its modules need of a kernel`,
    );
  return kabi;
};

const headerOf = (subject: ModulesSubject, kabi: Kabi): RpmHeader => {
  const { source, kernel, modules } = subject;
  const named = { name: nameOf(subject), ...versionOf(subject), arch: kernel.arch };
  const itself = `= ${named.version}-${named.release}`;
  return {
    ...named,
    license: licenseOf(subject),
    summary: `Kernel modules of ${source.name} for the kABI of ${kernel.release}`,
    description: wrapped(
      `${modules.map(({ name }) => name).join(', ')} of ${source.name} ${source.version}, compiled and signed by Kiln for Linux ${kernel.release}, for each kernel that has the same symbols with the same CRCs. Nothing is compiled on the host. The signed provenance is among the documents.`,
    ),
    requires: [
      `kiln-modules-common >= ${LINKS_SINCE}`,
      ...kabi.symbols.map(([symbol, crc]) => requirementOf(kernel.release, symbol, crc)),
      ...(bringsSettings(subject) ? [settingsName(source.name)] : []),
    ],
    provides: [
      ...itselfOf(named),
      `${packageWord(source.name)}-kmp ${itself}`,
      `${packageWord(source.name)}-modules ${itself}`,
    ],
    script: null,
  };
};

/**
 * `NAME-kmp-FLAVOUR`, as SUSE names them. Enterprise Linux's kernels have no flavour in that sense: there people look for `kmod-NAME`, and
 * for `kmod-NAME-VARIANT` with kernels such as `+rt`, as kmodtool and the repositories that follow it name what tracks the kABI. The
 * packages for one kernel each (`rpm`) have the same name for what follows the newest: a host is told of one of the two repositories.
 */
const nameOf = ({ source, kernel }: ModulesSubject): string => {
  const flavour = flavourOf(kernel.release);
  if (flavour !== null) return `${packageWord(source.name)}-kmp-${kernelWord(flavour)}`;
  const variant = rpmFlavourOf(kernel.release);
  return `${sourceName(source.name)}${variant === null ? '' : `-${kernelWord(variant)}`}`;
};

/**
 * The source's version; then the packaging's own revision, `k` and the kernel's release without its flavour and with `_` for `-`, and the
 * count. SUSE has the kernel in the version, where it would put `1.0a` before `1.0`.
 */
const versionOf = ({
  source,
  kernel,
  revision: count,
}: ModulesSubject): { version: string; release: string } => {
  const { upstream, revision } = dividedVersion(source.version);
  const flavour = rpmFlavourOf(kernel.release);
  const built =
    flavour === null ? kernel.release : kernel.release.slice(0, -flavour.length - '-'.length);
  return {
    version: singleDots(upstream),
    release: singleDots(`${revision}_k${kernelWord(built).replaceAll('-', '_')}.${count}`),
  };
};

/**
 * What a kernel's own package provides of a symbol: SUSE's `ksym(FLAVOUR:SYMBOL)`, whose CRCs have no zeros before them, or Enterprise
 * Linux's `kernel(SYMBOL)`.
 */
const requirementOf = (release: string, symbol: string, crc: string): string => {
  const flavour = flavourOf(release);
  return flavour === null
    ? `kernel(${symbol}) = 0x${crc}`
    : `ksym(${flavour}:${symbol}) = ${crc.replace(/^0+(?=.)/, '')}`;
};

/** The place of a file: firmware goes where all kernels look. */
const placeOf = (place: string, { kernel }: ModulesSubject): string =>
  place.replace(`/lib/firmware/updates/${kernel.release}/`, '/lib/firmware/updates/');

/** Has depmod prefer links to what kernels have themselves, as they come after that in Enterprise Linux's order (depmod.d(5)). */
const preferenceOf = ({ source, modules }: ModulesSubject, name: string): PlannedFile => ({
  place: `/usr/lib/depmod.d/${name}.conf`,
  content: {
    text: modules
      .map((module) => `override ${module.name} * weak-updates/${source.name}\n`)
      .join(''),
  },
});

/** What `kiln-modules-common` reads, to link the modules on kernels that agree: one fact a line, then a line `CRC SYMBOL` for each symbol. */
const listOf = ({ source, kernel }: ModulesSubject, kabi: Kabi, name: string): PlannedFile => {
  const text = `release ${kernel.release}
modules updates/${source.name}
flavour ${flavourToLinkIn(kernel.release)}
vermagic ${kabi.vermagic}
gpl ${kabi.isGpl ? 'yes' : 'no'}
namespaces ${kabi.namespaces.join(' ')}
${kabi.symbols.map(([symbol, crc]) => `0x${crc} ${symbol}\n`).join('')}`;
  return { place: `${LISTS}/${name}`, content: { text } };
};
