import { SOURCE_DATE_EPOCH } from '../core/build/build-environment.ts';
import { digestOf, hexOf } from '../core/digest.ts';
import { KilnError } from '../core/errors.ts';
import type { PackagePlan, PlannedFile } from '../core/packages/plan.ts';
import {
  changedBy,
  ownedDirectories,
  removalScript,
  RPM_CHANGE,
  RPM_GROUP,
  RPM_PACKAGER,
  triggerScript,
} from '../core/packages/rpm-spec.ts';
import type { RpmTag, RpmValues } from './rpm-header.ts';

/** What rpmbuild makes of a plan: each tag of a package's header, worked out (sources: rpm's `rpmtag.h`, `build/files.c`, `rpmds.h`). */

/** A directory or file of a package, as its header and its payload have it. */
export interface PlannedEntry {
  readonly place: string;
  /** With the bits of its type. */
  readonly mode: number;
  /** `null` for a directory. */
  readonly sha256: string | null;
}

const DIRECTORY = 0o040755;
const FILE = 0o100644;
const PROGRAM = 0o100755;

/** All that a package lists, in rpm's order: that of the bytes of paths. */
export const plannedEntries = ({ files }: PackagePlan): readonly PlannedEntry[] =>
  [
    ...ownedDirectories(files).map((place) => ({ place, mode: DIRECTORY, sha256: null })),
    ...files.map((file) => ({
      place: file.place,
      mode: file.executable === true ? PROGRAM : FILE,
      sha256: sha256Of(file),
    })),
  ].toSorted((one, other) => Buffer.compare(Buffer.from(one.place), Buffer.from(other.place)));

const sha256Of = ({ place, content }: PlannedFile): string => {
  if ('blob' in content) return hexOf(content.blob);
  if ('text' in content) return hexOf(digestOf(content.text));
  throw new KilnError('internal', `${place} is packed with gzip, which no RPM package has`);
};

/** What a package requires or provides, as rpm counts it: name, flags and version. */
type Relation = readonly [name: string, flags: number, version: string];
/** What a tag is to say: these values, or what a function finds right. Tags that are not here are not to be there. */
type Planned = Partial<Record<RpmTag, RpmValues | ((found: RpmValues) => boolean)>>;

/** `%transfiletriggerin` and `%transfiletriggerpostun`, for each of two directories. */
const TRIGGER_FLAGS = [1 << 16, 1 << 18, 1 << 16, 1 << 18];
const TRIGGER_PRIORITY = 1_000_000;
const DOCUMENT = 2;
const DAY = 86_400;
/** The changelog's day has no time: rpm takes noon. */
const NOON = SOURCE_DATE_EPOCH - (SOURCE_DATE_EPOCH % DAY) + DAY / 2;
const SHA256 = 8;
/** Texts of rpmbuild's own, which nothing is done by. */
const isPlain = (found: RpmValues): boolean =>
  found.length === 1 && /^[\x20-\x7e]{1,200}$/.test(String(found[0]));
const anything = (): boolean => true;

/** What each tag of a package's header is to say, and its relations. Throws `internal` where the plan is of another format. */
export const plannedTags = (
  plan: PackagePlan,
  entries: readonly PlannedEntry[],
  made: { readonly sizes: readonly number[]; readonly payload: string; readonly cpio: string },
): Planned & { readonly provides: readonly Relation[]; readonly requires: readonly Relation[] } => {
  const { rpm: header } = plan;
  if (header === undefined) throw new KilnError('internal', `${plan.file} is no RPM package`);
  const { name, version, release, script } = header;
  return {
    headeri18ntable: ['C'],
    name: [name],
    version: [version],
    release: [release],
    summary: [header.summary],
    description: [header.description],
    buildtime: [SOURCE_DATE_EPOCH],
    buildhost: ['localhost'],
    size: [made.sizes.reduce((sum, size) => sum + size, 0)],
    license: [header.license],
    packager: [RPM_PACKAGER],
    group: [RPM_GROUP],
    os: ['linux'],
    arch: [header.arch],
    sourcerpm: [`${name}-${version}-${release}.src.rpm`],
    rpmversion: isPlain,
    optflags: isPlain,
    platform: isPlain,
    encoding: ['utf-8'],
    changelogtime: [NOON],
    changelogname: [changedBy(header)],
    changelogtext: [RPM_CHANGE],
    filedigestalgo: [SHA256],
    payloadformat: ['cpio'],
    payloadcompressor: ['xz'],
    payloadflags: ['6'],
    payloaddigest: [made.payload],
    payloaddigestalgo: [SHA256],
    payloaddigestalt: [made.cpio],
    ...(entries.length === 0 ? {} : fileTags(entries, made.sizes, header.arch)),
    ...(script === null ? {} : scriptTags(script)),
    // Their order is rpm's own.
    providename: anything,
    provideflags: anything,
    provideversion: anything,
    requirename: anything,
    requireflags: anything,
    requireversion: anything,
    provides: header.provides.map(relationOf),
    requires: [
      ...header.requires.map(relationOf),
      ...RPMLIB.map(([feature, since]) => [`rpmlib(${feature})`, 0x0100_000a, since] as const),
      ...(script === null ? [] : INTERPRETERS),
    ],
  };
};

const fileTags = (
  entries: readonly PlannedEntry[],
  sizes: readonly number[],
  arch: string,
): Planned => {
  const each = <T extends string | number>(value: (entry: PlannedEntry, at: number) => T): T[] =>
    entries.map(value);
  const home = (place: string): string => place.slice(0, place.lastIndexOf('/') + 1);
  const homes = [...new Set(entries.map(({ place }) => home(place)))];
  const color = NARROW.has(arch) ? 1 : 2;
  return {
    filesizes: sizes,
    filemodes: each(({ mode }) => mode),
    filerdevs: each(() => 0),
    filemtimes: each(() => SOURCE_DATE_EPOCH),
    filedigests: each(({ sha256 }) => sha256 ?? ''),
    filelinktos: each(() => ''),
    fileflags: each(({ place, sha256 }) =>
      sha256 !== null && place.startsWith('/usr/share/doc/') ? DOCUMENT : 0,
    ),
    fileusername: each(() => 'root'),
    filegroupname: each(() => 'root'),
    fileverifyflags: each(() => 0xffff_ffff),
    filedevices: each(() => 1),
    fileinodes: each((_, at) => at + 1),
    filelangs: each(() => ''),
    dirindexes: each(({ place }) => homes.indexOf(home(place))),
    basenames: each(({ place }) => place.slice(home(place).length)),
    dirnames: homes,
    // What rpm leaves out on a host of another kind of programs.
    filecolors: (found) =>
      found.length === entries.length && found.every((value) => value === 0 || value === color),
    // What `file` says of each.
    fileclass: anything,
    classdict: anything,
  };
};

/** Architectures whose programs are of 32 bits. */
const NARROW: ReadonlySet<string> = new Set(['i686', 'armv7l']);

const scriptTags = (script: string): Planned => ({
  preun: [removalScript(script)],
  preunprog: ['/bin/sh'],
  transfiletriggerscripts: [triggerScript(script), triggerScript(script)],
  transfiletriggerscriptprog: ['/bin/sh', '/bin/sh'],
  transfiletriggername: ['/lib/modules', '/lib/modules', '/usr/lib/modules', '/usr/lib/modules'],
  transfiletriggerindex: [0, 1, 0, 1],
  transfiletriggerversion: ['', '', '', ''],
  transfiletriggerflags: TRIGGER_FLAGS,
  transfiletriggerpriorities: [TRIGGER_PRIORITY, TRIGGER_PRIORITY],
});

/** What rpm requires of the rpm that reads a package. */
const RPMLIB = [
  ['CompressedFileNames', '3.0.4-1'],
  ['FileDigests', '4.6.0-1'],
  ['PayloadFilesHavePrefix', '4.0-1'],
  ['PayloadIsXz', '5.2-1'],
] as const;

/** The shell, for the triggers and for `%preun`. */
const INTERPRETERS: readonly Relation[] = [
  ['/bin/sh', 1 << 8, ''],
  ['/bin/sh', (1 << 8) | (1 << 11), ''],
];

const SENSES: Readonly<Record<string, number>> = { '<': 2, '>': 4, '=': 8, '<=': 10, '>=': 12 };

/** `NAME`, or `NAME = VERSION`. */
const relationOf = (text: string): Relation => {
  const [name = '', sign, version = ''] = text.split(' ');
  return [name, sign === undefined ? 0 : (SENSES[sign] ?? -1), version];
};
