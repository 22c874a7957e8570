import { SOURCE_DATE_EPOCH } from '../build/build-environment.ts';
import { digestOf, hexOf, type Digest } from '../digest.ts';
import { contentSizes } from '../packages/contents.ts';
import { planPackage } from '../packages/plan-package.ts';
import type { PackagePlan, RpmHeader } from '../packages/plan.ts';
import { ownedDirectories, RPM_GROUP, RPM_PACKAGER } from '../packages/rpm-spec.ts';
import type { RepositoryIndex } from './index-of.ts';
import { poolPath, type RepositoryContent } from './repository.ts';

/** The index of a repository for dnf and zypper (source: createrepo_c's repomd, primary, filelists and other). */

interface Package {
  readonly plan: PackagePlan;
  readonly header: RpmHeader;
  readonly digest: Digest;
  readonly size: number;
  readonly installed: number;
  readonly source: string;
}

/** Works out the index of a repository. */
export const rpmIndex = (content: RepositoryContent): RepositoryIndex => {
  const packages = content.packages
    .map(({ subject, digest, size }): Package => {
      const plan = planPackage(content.format, subject);
      if (plan.rpm === undefined) throw new TypeError('an RPM package without a header');
      const installed = contentSizes(subject).reduce((sum, each) => sum + each, 0);
      const source = 'source' in subject ? subject.source.name : '';
      return { plan, header: plan.rpm, digest, size, installed, source };
    })
    .toSorted((one, other) => (one.plan.file < other.plan.file ? -1 : 1));
  const texts = {
    primary: listOf('metadata', 'http://linux.duke.edu/metadata/common', packages, primary),
    filelists: listOf('filelists', 'http://linux.duke.edu/metadata/filelists', packages, filelist),
    other: listOf('otherdata', 'http://linux.duke.edu/metadata/other', packages, other),
  };
  const lists = new Map<string, string>();
  const data = Object.entries(texts).map(([type, text]) => {
    const hex = hexOf(digestOf(text));
    const path = `repodata/${hex}-${type}.xml`;
    lists.set(path, text);
    const size = Buffer.byteLength(text);
    return `  <data type="${type}">
    <checksum type="sha256">${hex}</checksum>
    <open-checksum type="sha256">${hex}</open-checksum>
    <location href="${path}"/>
    <timestamp>${content.madeAt}</timestamp>
    <size>${size}</size>
    <open-size>${size}</open-size>
  </data>
`;
  });
  return {
    lists,
    top: {
      path: 'repodata/repomd.xml',
      text: `${HEAD}<repomd xmlns="http://linux.duke.edu/metadata/repo" xmlns:rpm="http://linux.duke.edu/metadata/rpm">\n  <revision>${content.madeAt}</revision>\n${data.join('')}</repomd>\n`,
      signature: 'repodata/repomd.xml.asc',
      inline: null,
    },
  };
};

const HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n';

const listOf = (
  name: string,
  namespace: string,
  packages: readonly Package[],
  one: (each: Package) => string,
): string =>
  `${HEAD}<${name} xmlns="${namespace}" xmlns:rpm="http://linux.duke.edu/metadata/rpm" packages="${packages.length}">\n${packages.map(one).join('')}</${name}>\n`;

const escaped = (text: string): string =>
  text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');

const version = ({ version: ver, release }: RpmHeader): string =>
  `<version epoch="0" ver="${ver}" rel="${release}"/>`;

const FLAGS: Readonly<Record<string, string>> = {
  '=': 'EQ',
  '>=': 'GE',
  '<=': 'LE',
  '>': 'GT',
  '<': 'LT',
};

/** `NAME`, or `NAME = VERSION`, as an entry. */
const relation = (text: string): string => {
  const [name = '', sign, of] = text.split(' ');
  if (sign === undefined || of === undefined) return `<rpm:entry name="${escaped(name)}"/>`;
  const dash = of.lastIndexOf('-');
  const [ver, rel] = dash < 0 ? [of, null] : [of.slice(0, dash), of.slice(dash + 1)];
  return `<rpm:entry name="${escaped(name)}" flags="${FLAGS[sign] ?? 'EQ'}" epoch="0" ver="${escaped(ver)}"${rel === null ? '' : ` rel="${escaped(rel)}"`}/>`;
};

const primary = ({ plan, header, digest, size, installed, source }: Package): string =>
  `<package type="rpm">
  <name>${header.name}</name>
  <arch>${header.arch}</arch>
  ${version(header)}
  <checksum type="sha256" pkgid="YES">${hexOf(digest)}</checksum>
  <summary>${escaped(header.summary)}</summary>
  <description>${escaped(header.description)}</description>
  <packager>${escaped(RPM_PACKAGER)}</packager>
  <url/>
  <time file="${SOURCE_DATE_EPOCH}" build="${SOURCE_DATE_EPOCH}"/>
  <size package="${size}" installed="${installed}" archive="${installed}"/>
  <location href="${poolPath(source, plan.file)}"/>
  <format>
    <rpm:license>${escaped(header.license)}</rpm:license>
    <rpm:vendor/>
    <rpm:group>${RPM_GROUP}</rpm:group>
    <rpm:buildhost>localhost</rpm:buildhost>
    <rpm:sourcerpm>${header.name}-${header.version}-${header.release}.src.rpm</rpm:sourcerpm>
    <rpm:provides>${header.provides.map(relation).join('')}</rpm:provides>
    <rpm:requires>${[...header.requires, ...(header.script === null ? [] : ['/bin/sh'])].map(relation).join('')}</rpm:requires>
  </format>
</package>
`;

const filelist = ({ plan, header, digest }: Package): string => {
  const directories = ownedDirectories(plan.files).map(
    (place) => `  <file type="dir">${escaped(place)}</file>\n`,
  );
  const files = plan.files.map(({ place }) => `  <file>${escaped(place)}</file>\n`);
  return `<package pkgid="${hexOf(digest)}" name="${header.name}" arch="${header.arch}">
  ${version(header)}
${[...directories, ...files].join('')}</package>
`;
};

const other = ({ header, digest }: Package): string =>
  `<package pkgid="${hexOf(digest)}" name="${header.name}" arch="${header.arch}">
  ${version(header)}
</package>
`;
