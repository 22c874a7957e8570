import { COMMON_DEB_CONTROL } from './common-package.ts';
import { bringsSettings, contentOf, contentSizes, licensesOf } from './contents.ts';
import {
  debArch,
  debName,
  debVersion,
  kernelPackages,
  modulesPackage,
  packageWord,
  settingsPackage,
} from './names.ts';
import type { PackagePlan, PlannedFile } from './plan.ts';
import type { ModulesSubject, PackageSubject } from './subject.ts';

/** Nobody’s address, as RFC 2606 keeps one: who runs the service answers for its packages. */
const MAINTAINER = 'Kiln <kiln@packages.invalid>';
/** SOURCE_DATE_EPOCH's day, as Debian's changelogs write it. */
const DAY = 'Sun, 09 Sep 2001 01:46:40 +0000';

/** What is in a Debian package. */
export const debPlan = (subject: PackageSubject): PackagePlan => {
  const [name, version] = [debName(subject), debVersion(subject)];
  const arch = subject.kind === 'modules' ? debArch(subject.kernel.arch) : archOf(subject);
  const files = [...contentOf(subject), ...documents(subject, name, version)];
  const fields: readonly (readonly [string, string | null])[] = [
    ['Package', name],
    ['Version', version],
    ['Architecture', arch],
    ['Multi-Arch', arch === 'all' ? 'foreign' : null],
    ['Maintainer', MAINTAINER],
    ['Installed-Size', String(installedSize(subject))],
    ['Depends', dependsOf(subject).join(', ') || null],
    ['Provides', providesOf(subject).join(', ') || null],
    ['Section', 'kernel'],
    ['Priority', 'optional'],
    ['Kiln-Build', subject.kind === 'modules' ? subject.build : null],
    ['Description', descriptionOf(subject)],
  ];
  const control = fields.flatMap(([field, value]) =>
    value === null ? [] : `${field}: ${value}\n`,
  );
  return {
    format: 'deb',
    name,
    version,
    arch,
    // An epoch, which no version here has, would be left out of the file's name.
    file: `${name}_${version}_${arch}.deb`,
    control: {
      control: control.join(''),
      ...(subject.kind === 'common' ? COMMON_DEB_CONTROL : {}),
    },
    files,
  };
};

/** A package for a flavour is for the flavour's architecture, as there may be one of that name for another. */
const archOf = (subject: Exclude<PackageSubject, ModulesSubject>): string =>
  subject.kind === 'flavour' ? debArch(subject.kernel.arch) : 'all';

const dependsOf = (subject: PackageSubject): readonly string[] => {
  switch (subject.kind) {
    case 'modules': {
      const { release } = subject.kernel;
      return [
        'kiln-modules-common',
        kernelPackages(release).join(' | '),
        ...subject.needs.map((need) => modulesPackage(need, release)),
        ...(bringsSettings(subject) ? [settingsPackage(subject.source.name)] : []),
      ];
    }
    case 'flavour': {
      const { source, kernel } = subject;
      const least = withoutCount(debVersion(subject));
      return [`${modulesPackage(source.name, kernel.release)} (>= ${least})`];
    }
    case 'settings':
      return [];
    case 'common':
      return ['kmod'];
  }
};

/** A version without the count of packages that differ in their bytes alone. */
const withoutCount = (version: string): string => version.replace(/\+[0-9]+$/, '');

const providesOf = (subject: PackageSubject): readonly string[] =>
  subject.kind === 'modules' ? [`${packageWord(subject.source.name)}-modules`] : [];

/** KiB on the host. */
const installedSize = (subject: PackageSubject): number =>
  contentSizes(subject).reduce((sum, size) => sum + Math.ceil(size / 1024), 8);

const descriptionOf = (subject: PackageSubject): string => {
  if (subject.kind === 'common')
    return 'index and initramfs for packages of kernel modules\n When packages of kernel modules that Kiln made come or go, this makes the\n module index and the initramfs anew: once for all of them and each kernel.';
  const { name, version } = subject.source;
  switch (subject.kind) {
    case 'modules':
      return `kernel modules of ${name} for Linux ${subject.kernel.release}\n ${subject.modules.map((each) => each.name).join(', ')} of ${name} ${version}, compiled and signed by Kiln for\n Linux ${subject.kernel.release}. Nothing is compiled on the host. The signed\n provenance is in the documentation's directory.`;
    case 'settings':
      return `settings for the kernel modules of ${name}\n What ${name} ${version} brings beside its modules, the same for all kernels:\n rules and settings of udev, modprobe, depmod and systemd.`;
    case 'flavour':
      return `kernel modules of ${name} for the newest Linux (${subject.flavour})\n Depends on the modules of ${name} for the newest kernel of this flavour that\n they are there for: upgraded with the kernel, it brings them along.`;
  }
};

const documents = (
  subject: PackageSubject,
  name: string,
  version: string,
): readonly PlannedFile[] => {
  const home = `/usr/share/doc/${name}`;
  return [
    {
      place: `${home}/changelog.Debian.gz`,
      content: {
        gzip: `${name} (${version}) unstable; urgency=medium\n\n  * Made by Kiln.\n\n -- ${MAINTAINER}  ${DAY}\n`,
      },
    },
    { place: `${home}/copyright`, content: { text: copyrightOf(subject) } },
    ...(subject.kind === 'modules'
      ? [{ place: `${home}/provenance.json`, content: { blob: subject.attestation.digest } }]
      : []),
  ];
};

const copyrightOf = (subject: PackageSubject): string => {
  if (subject.kind !== 'modules' && subject.kind !== 'settings')
    return 'Files: *\nCopyright: the authors of Kiln\nLicense: Apache-2.0\n On Debian systems, the text is in /usr/share/common-licenses/Apache-2.0.\n';
  const { source } = subject;
  const licenses = licensesOf(subject).join(', ');
  return `Files: *\nCopyright: the authors of ${source.name}, as its source says\nLicense: ${licenses}\n What the modules say of themselves. The terms are those of the source, ${source.name}\n ${source.version}. On Debian systems, the text of the GNU General Public License,\n version 2, is in /usr/share/common-licenses/GPL-2.\n`;
};
