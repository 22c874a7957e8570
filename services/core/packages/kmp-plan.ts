import { KilnError } from '../errors.ts';
import { bringsSettings, contentOf } from './contents.ts';
import { dividedVersion, flavourOf, kernelWord, packageWord, rpmFlavourOf } from './names.ts';
import type { PackagePlan, PlannedFile, RpmHeader } from './plan.ts';
import { licenseOf } from './rpm-license.ts';
import { documents, rpmPlan, settingsName, singleDots, sourceName } from './rpm-plan.ts';
import { itselfOf, packageOf, wrapped } from './rpm-spec.ts';
import type { ModulesSubject, PackageSubject } from './subject.ts';

/**
 * RPM packages of modules that track the kABI: one serves every kernel whose CRCs agree (sources: SUSE's Kernel Module Packages Manual,
 * `kernel-module-subpackage`; Enterprise Linux's `kmodtool` and `find-requires.ksyms`).
 */

/** Where lists of symbols lie, for who links modules on other kernels. */
const LISTS = '/usr/lib/kiln-modules/kabi';

/** What is in such a package. Settings, and what all packages need, are as among other RPM packages. Throws `KilnError('conflict')`. */
export const kmpPlan = (subject: PackageSubject): PackagePlan => {
  switch (subject.kind) {
    case 'settings':
    case 'common':
      return { ...rpmPlan(subject), format: 'kmp' };
    case 'flavour':
      throw new KilnError('conflict', 'a kmp is called after its flavour itself; none follows one');
    case 'modules': {
      const header = headerOf(subject);
      const files = [
        ...contentOf(subject),
        ...documents(subject, header.name),
        listOf(subject, header.name),
      ];
      return packageOf('kmp', header, files);
    }
  }
};

const headerOf = (subject: ModulesSubject): RpmHeader => {
  const { source, kernel, modules, needs } = subject;
  if (needs.length > 0)
    throw new KilnError(
      'conflict',
      `no kmp can be made of ${source.name}, which is built against ${needs.join(', ')}: a kernel's symbols do not say which of these it has; make an rpm of it`,
    );
  const named = { name: nameOf(subject), ...versionOf(subject), arch: kernel.arch };
  return {
    ...named,
    license: licenseOf(subject),
    summary: `Kernel modules of ${source.name} for the kABI of ${kernel.release}`,
    description: wrapped(
      `${modules.map(({ name }) => name).join(', ')} of ${source.name} ${source.version}, compiled and signed by Kiln for Linux ${kernel.release}, for each kernel that has the same symbols with the same CRCs. Nothing is compiled on the host. The signed provenance is among the documents.`,
    ),
    requires: [
      'kiln-modules-common',
      ...symbolsOf(subject).map(([symbol, crc]) => requirementOf(kernel.release, symbol, crc)),
      ...(bringsSettings(subject) ? [settingsName(source.name)] : []),
    ],
    provides: [
      ...itselfOf(named),
      `${packageWord(source.name)}-modules = ${named.version}-${named.release}`,
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

/** `UPSTREAM_kRELEASE`, the kernel's release without its flavour and with `_` for `-`; then the packaging's own revision and the count. */
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
    version: singleDots(`${upstream}_k${kernelWord(built).replaceAll('-', '_')}`),
    release: singleDots(`${revision}.${count}`),
  };
};

/** What a kernel's own package provides of a symbol: SUSE's `ksym(FLAVOUR:SYMBOL)`, or Enterprise Linux's `kernel(SYMBOL)`. */
const requirementOf = (release: string, symbol: string, crc: string): string => {
  const flavour = flavourOf(release);
  return flavour === null ? `kernel(${symbol}) = 0x${crc}` : `ksym(${flavour}:${symbol}) = ${crc}`;
};

/** The symbols that a package's modules need, each with its CRC, once. Throws `conflict` where the modules do not carry them. */
const symbolsOf = ({ modules }: ModulesSubject): readonly (readonly [string, string])[] => {
  const all = modules.flatMap(({ name, imports }) => {
    if (imports === undefined)
      throw new KilnError('conflict', `no kmp can be made of ${name}.ko without what it imports`);
    return Object.entries(imports).map(([symbol, crc]) => `${symbol} ${crc}`);
  });
  return [...new Set(all)].sort().map((each) => {
    const [symbol = '', crc = ''] = each.split(' ');
    return [symbol, crc];
  });
};

/** What `kiln-modules-common` reads, to link the modules on kernels that agree: one fact a line, then a line `CRC SYMBOL` for each symbol. */
const listOf = (subject: ModulesSubject, name: string): PlannedFile => {
  const { source, kernel } = subject;
  const symbols = symbolsOf(subject).map(([symbol, crc]) => `0x${crc} ${symbol}\n`);
  const text = `release ${kernel.release}\nmodules updates/${source.name}\n${symbols.join('')}`;
  return { place: `${LISTS}/${name}`, content: { text } };
};
