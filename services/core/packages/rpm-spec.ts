import { SOURCE_DATE_EPOCH } from '../build/build-environment.ts';
import type { PackageFormat, PackagePlan, PlannedFile, RpmHeader } from './plan.ts';

/** An RPM package as rpmbuild is told of it (source: rpm-spec(5)). */

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

/** The plan of a package of RPM in one of its formats. */
export const packageOf = (
  format: PackageFormat,
  header: RpmHeader,
  files: readonly PlannedFile[],
): PackagePlan => {
  const { name, version, release, arch } = header;
  return {
    format,
    name,
    version: `${version}-${release}`,
    arch,
    file: `${name}-${version}-${release}.${arch}.rpm`,
    control: { spec: specOf(header, files) },
    files,
    rpm: header,
  };
};

/** What a package provides by being itself: its name, and that with its instruction set. */
export const itselfOf = ({
  name,
  version,
  release,
  arch,
}: Pick<RpmHeader, 'name' | 'version' | 'release' | 'arch'>): readonly string[] =>
  [name, ...(arch === 'noarch' ? [] : [`${name}(${isaOf(arch)})`])].map(
    (each) => `${each} = ${version}-${release}`,
  );

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

/** Directories below which a package owns those that it needs. */
const OWN = [
  /^\/lib\/modules\/[^/]+\/updates(\/|$)/,
  /^\/lib\/firmware\/updates(\/|$)/,
  /^\/usr\/share\/doc\/[^/]+$/,
  /^\/usr\/lib\/kiln-modules(\/kabi)?$/,
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

const WIDTH = 76;
/** A description in lines as long as terminals are wide. */
export const wrapped = (text: string): string =>
  text.replaceAll(new RegExp(`(.{1,${WIDTH}})(?: |$)`, 'g'), '$1\n').trimEnd();

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
