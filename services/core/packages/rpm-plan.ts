import { SOURCE_DATE_EPOCH } from '../build/build-environment.ts';
import { UPDATE_SCRIPT } from './common-package.ts';
import { bringsSettings, contentOf, licensesOf } from './contents.ts';
import { COMMON_VERSION, dividedVersion, kernelWord, packageWord } from './names.ts';
import type { PackagePlan, PlannedFile, RpmHeader } from './plan.ts';
import type { PackageSubject } from './subject.ts';

/**
 * RPM packages as akmods makes them: `kmod-NAME-RELEASE`, so that several kernels' lie side by side, which ATrpms called
 * `kernel-module-NAME-RELEASE`, and `kmod-NAME` (or `kmod-NAME-FLAVOUR`) that needs the newest (sources: rpm-spec(5), kmodtool).
 */

export const RPM_GROUP = 'System/Kernel';
export const RPM_PACKAGER = 'Kiln <kiln@packages.invalid>';
export const RPM_CHANGE = '- Made by Kiln.';
/** SOURCE_DATE_EPOCH's day, as a changelog has it: `Sun Sep 09 2001`. */
const DAY = new Date(SOURCE_DATE_EPOCH * 1000)
  .toUTCString()
  .replace(/^(\w+), (\d+) (\w+) (\d+).*$/, '$1 $3 $2 $4');

/** Who changed a package last, as its changelog names them. */
export const changedBy = ({ version, release }: Pick<RpmHeader, 'version' | 'release'>): string =>
  `${RPM_PACKAGER} - ${version}-${release}`;

/** What is run once for the packages of modules that came or went in a transaction. */
export const triggerScript = (script: string): string => `${script} || :`;

/** What is run as the package with the script goes: its trigger does not outlive it, and what goes in the same transaction has gone by now. */
export const removalScript = (script: string): string =>
  `if [ "$1" = 0 ]; then ${script}; rm -rf /var/lib/kiln-modules; fi || :`;

/** What is in an RPM package. */
export const rpmPlan = (subject: PackageSubject): PackagePlan => {
  const header = headerOf(subject);
  const { name, version, release, arch } = header;
  const files = [...contentOf(subject), ...documents(subject, name)];
  return {
    format: 'rpm',
    name,
    version: `${version}-${release}`,
    arch,
    file: `${name}-${version}-${release}.${arch}.rpm`,
    control: { spec: specOf(header, files) },
    files,
    rpm: header,
  };
};

const headerOf = (subject: PackageSubject): RpmHeader => {
  const name = nameOf(subject);
  const { version, release } = versionOf(subject);
  const itself = `= ${version}-${release}`;
  const arch = 'kernel' in subject ? subject.kernel.arch : 'noarch';
  return {
    name,
    version,
    release,
    arch,
    license: licenseOf(subject),
    summary: summaryOf(subject),
    description: descriptionOf(subject),
    requires: requiresOf(subject),
    provides: [
      `${name} ${itself}`,
      ...(arch === 'noarch' ? [] : [`${name}(${isaOf(arch)}) ${itself}`]),
      ...(subject.kind === 'modules'
        ? [
            `kernel-module-${packageWord(subject.source.name)}-${kernelWord(subject.kernel.release)} ${itself}`,
            `${packageWord(subject.source.name)}-modules ${itself}`,
          ]
        : []),
    ],
    script: subject.kind === 'common' ? UPDATE_SCRIPT : null,
  };
};

/** What rpm calls an architecture's instruction set in `NAME(ISA)`. */
const isaOf = (arch: string): string =>
  ({
    x86_64: 'x86-64',
    i686: 'x86-32',
    aarch64: 'aarch-64',
    ppc64le: 'ppc-64',
    s390x: 's390-64',
    riscv64: 'riscv-64',
    armv7l: 'armv7l-32',
  })[arch] ?? arch;

const nameOf = (subject: PackageSubject): string => {
  switch (subject.kind) {
    case 'common':
      return 'kiln-modules-common';
    case 'modules':
      return modulesName(subject.source.name, subject.kernel.release);
    case 'settings':
      return settingsName(subject.source.name);
    case 'flavour':
      return `${sourceName(subject.source.name)}${subject.flavour === null ? '' : `-${kernelWord(subject.flavour)}`}`;
  }
};

const sourceName = (source: string): string => `kmod-${packageWord(source)}`;
const settingsName = (source: string): string => `${sourceName(source)}-settings`;
const modulesName = (source: string, release: string): string =>
  `${sourceName(source)}-${kernelWord(release)}`;

/** The source's version, its packaging's own, and the count of packages that differ in their bytes alone; what follows the kernel has its release before that. */
const versionOf = (subject: PackageSubject): { version: string; release: string } => {
  if (subject.kind === 'common') return { version: COMMON_VERSION, release: '1' };
  const { upstream, revision } = dividedVersion(subject.source.version);
  const kernel =
    subject.kind === 'flavour' ? `.${kernelWord(subject.kernel.release).replaceAll('-', '.')}` : '';
  return { version: once(upstream), release: once(`${revision}${kernel}.${subject.revision}`) };
};

/** rpm refuses two dots that follow each other. */
const once = (version: string): string => version.replaceAll(/\.{2,}/g, '.');

const requiresOf = (subject: PackageSubject): readonly string[] => {
  switch (subject.kind) {
    case 'modules': {
      const { source, kernel, needs } = subject;
      return [
        // What a release with more than one hyphen is, no version of an RPM package can be: SUSE's kernels do not say it either.
        ...(kernel.release.split('-').length > 2 ? [] : [`kernel-uname-r = ${kernel.release}`]),
        'kiln-modules-common',
        ...needs.map((need) => modulesName(need, kernel.release)),
        ...(bringsSettings(subject) ? [settingsName(source.name)] : []),
      ];
    }
    case 'flavour': {
      const { source, kernel } = subject;
      return [`${modulesName(source.name, kernel.release)} >= ${versionOf(subject).version}`];
    }
    case 'settings':
      return [];
    case 'common':
      return ['coreutils', 'findutils', 'kmod'];
  }
};

const summaryOf = (subject: PackageSubject): string => {
  switch (subject.kind) {
    case 'modules':
      return `Kernel modules of ${subject.source.name} for Linux ${subject.kernel.release}`;
    case 'settings':
      return `Settings for the kernel modules of ${subject.source.name}`;
    case 'flavour':
      return `Kernel modules of ${subject.source.name} for the newest Linux${subject.flavour === null ? '' : ` (${subject.flavour})`}`;
    case 'common':
      return 'Module index and initramfs for packages of kernel modules';
  }
};

/** In lines as long as terminals are wide. */
const descriptionOf = (subject: PackageSubject): string =>
  subject.kind === 'modules'
    ? wrapped(
        `${subject.modules.map(({ name }) => name).join(', ')} of ${subject.source.name} ${subject.source.version}, compiled and signed by Kiln. Nothing is compiled on the host. The signed provenance is among the documents.`,
      )
    : `${summaryOf(subject)}.`;

const WIDTH = 76;
const wrapped = (text: string): string =>
  text.replaceAll(new RegExp(`(.{1,${WIDTH}})(?: |$)`, 'g'), '$1\n').trimEnd();

/** What modules say of their license, as SPDX has it (source: include/linux/module.h, `MODULE_LICENSE`). */
const SPDX: Readonly<Record<string, string>> = {
  GPL: 'GPL-2.0-only',
  'GPL v2': 'GPL-2.0-only',
  'GPL and additional rights': 'GPL-2.0-only',
  'Dual BSD/GPL': 'GPL-2.0-only OR BSD-3-Clause',
  'Dual MIT/GPL': 'GPL-2.0-only OR MIT',
  'Dual MPL/GPL': 'GPL-2.0-only OR MPL-1.1',
  CDDL: 'CDDL-1.0',
};

const LICENSE_LIMIT = 1000;

const licenseOf = (subject: PackageSubject): string => {
  if (subject.kind === 'common' || subject.kind === 'flavour') return 'Apache-2.0';
  const all = licensesOf(subject).map(
    (license) => SPDX[license] ?? `LicenseRef-${license.replaceAll(/[^A-Za-z0-9.-]+/g, '-')}`,
  );
  const joined = all
    .map((each) => (all.length > 1 && each.includes(' ') ? `(${each})` : each))
    .join(' AND ');
  return joined.length > LICENSE_LIMIT ? 'LicenseRef-several' : joined;
};

/** Directories below which a package owns those that it needs. */
const OWN = [
  /^\/lib\/modules\/[^/]+\/updates(\/|$)/,
  /^\/lib\/firmware\/updates(\/|$)/,
  /^\/usr\/(share\/doc|lib)\/(kmod-[^/]+|kiln-modules[^/]*)$/,
];

/** The directories that a package of these files owns. */
export const ownedDirectories = (
  files: readonly Pick<PlannedFile, 'place'>[],
): readonly string[] => {
  const all = files.flatMap(({ place }) => {
    const parts = place.split('/').slice(0, -1);
    return parts.map((_, depth) => parts.slice(0, depth + 1).join('/'));
  });
  return [...new Set(all)].filter((path) => OWN.some((pattern) => pattern.test(path))).sort();
};

/** A text in a spec file, where `%` begins a macro. */
const plain = (text: string): string => text.replaceAll('%', '%%');

const specOf = (header: RpmHeader, files: readonly PlannedFile[]): string => {
  const [, ...ownProvides] = header.provides;
  const { script } = header;
  const scripts =
    script === null
      ? ''
      : `${['in', 'postun'].map((when) => `%transfiletrigger${when} -- /lib/modules /usr/lib/modules\n${triggerScript(script)}\n\n`).join('')}%preun\n${removalScript(script)}\n\n`;
  return `Name: ${header.name}
Version: ${header.version}
Release: ${header.release}
Summary: ${plain(header.summary)}
License: ${plain(header.license)}
Group: ${RPM_GROUP}
Packager: ${RPM_PACKAGER}
AutoReqProv: no
${header.requires.map((each) => `Requires: ${each}\n`).join('')}${ownProvides
    .filter((each) => !each.startsWith(`${header.name}(`))
    .map((each) => `Provides: ${each}\n`)
    .join('')}
%description
${plain(header.description)}

%install
cp -a /pack/files/. %{buildroot}/

${scripts}%files
%defattr(-,root,root)
${ownedDirectories(files)
  .map((path) => `%dir "${path}"\n`)
  .join('')}${files.map(({ place }) => `"${place}"\n`).join('')}
%changelog
* ${DAY} ${changedBy(header)}
${RPM_CHANGE}
`;
};

const documents = (subject: PackageSubject, name: string): readonly PlannedFile[] =>
  subject.kind === 'modules'
    ? [
        {
          place: `/usr/share/doc/${name}/provenance.json`,
          content: { blob: subject.attestation.digest },
        },
      ]
    : [];
