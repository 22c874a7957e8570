import { UPDATE_SCRIPT } from './common-package.ts';
import { bringsSettings, contentOf } from './contents.ts';
import { COMMON_VERSION, dividedVersion, kernelWord, packageWord } from './names.ts';
import type { PackagePlan, PlannedFile, RpmHeader } from './plan.ts';
import { licenseOf } from './rpm-license.ts';
import { itselfOf, packageOf, wrapped } from './rpm-spec.ts';
import type { PackageSubject } from './subject.ts';

/**
 * RPM packages as akmods makes them: `kmod-NAME-RELEASE`, so that several kernels' lie side by side, which ATrpms called
 * `kernel-module-NAME-RELEASE`, and `kmod-NAME` (or `kmod-NAME-FLAVOUR`) that needs the newest (sources: rpm-spec(5), kmodtool).
 */

/** What is in an RPM package. */
export const rpmPlan = (subject: PackageSubject): PackagePlan => {
  const header = headerOf(subject);
  const files = [...contentOf(subject), ...documents(subject, header.name)];
  return packageOf('rpm', header, files);
};

const headerOf = (subject: PackageSubject): RpmHeader => {
  const name = nameOf(subject);
  const arch = 'kernel' in subject ? subject.kernel.arch : 'noarch';
  const named = { name, ...versionOf(subject), arch };
  const itself = `= ${named.version}-${named.release}`;
  return {
    ...named,
    license: licenseOf(subject),
    summary: summaryOf(subject),
    description: descriptionOf(subject),
    requires: requiresOf(subject),
    provides: [
      ...itselfOf(named),
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

/** What packages of a source are called after. */
export const sourceName = (source: string): string => `kmod-${packageWord(source)}`;
/** The package of the settings that a source brings. */
export const settingsName = (source: string): string => `${sourceName(source)}-settings`;
const modulesName = (source: string, release: string): string =>
  `${sourceName(source)}-${kernelWord(release)}`;

/** The source's version, its packaging's own, and the count of packages that differ in their bytes alone; what follows the kernel has its release before that. */
const versionOf = (subject: PackageSubject): { version: string; release: string } => {
  if (subject.kind === 'common') return { version: COMMON_VERSION, release: '1' };
  const { upstream, revision } = dividedVersion(subject.source.version);
  const kernel =
    subject.kind === 'flavour' ? `.${kernelWord(subject.kernel.release).replaceAll('-', '.')}` : '';
  return {
    version: singleDots(upstream),
    release: singleDots(`${revision}${kernel}.${subject.revision}`),
  };
};

/** A version as rpm takes it: it refuses two dots that follow each other. */
export const singleDots = (version: string): string => version.replaceAll(/\.{2,}/g, '.');

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
      return ['coreutils', 'findutils', 'gawk', 'gzip', 'kmod', 'sed', 'xz'];
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

const descriptionOf = (subject: PackageSubject): string =>
  subject.kind === 'modules'
    ? wrapped(
        `${subject.modules.map(({ name }) => name).join(', ')} of ${subject.source.name} ${subject.source.version}, compiled and signed by Kiln. Nothing is compiled on the host. The signed provenance is among the documents.`,
      )
    : `${summaryOf(subject)}.`;

/** The documents of a package of this name. */
export const documents = (subject: PackageSubject, name: string): readonly PlannedFile[] =>
  subject.kind === 'modules'
    ? [
        {
          place: `/usr/share/doc/${name}/provenance.json`,
          content: { blob: subject.attestation.digest },
        },
      ]
    : [];
