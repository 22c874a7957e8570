import { createHash } from 'node:crypto';
import { SOURCE_DATE_EPOCH } from '../core/build/build-environment.ts';
import { toDigest } from '../core/digest.ts';
import { KilnError } from '../core/errors.ts';
import {
  changedBy,
  ownedDirectories,
  removalScript,
  RPM_CHANGE,
  RPM_GROUP,
  RPM_PACKAGER,
  triggerScript,
} from '../core/packages/rpm-plan.ts';
import type { PackagePlan, PlannedFile, RpmHeader } from '../core/packages/plan.ts';
import { createByteReader } from './byte-reader.ts';
import { decompress } from './decompress.ts';
import { readCpio } from './read-rpm.ts';
import { readRpmHeaders, type RpmTags } from './rpm-header.ts';

const ENTRIES = 10_000;
const XZ = Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]);

const refuse = (plan: PackagePlan, what: string): KilnError =>
  new KilnError('unverified', `${plan.file} ${what}`);

/**
 * Checks that an RPM package is what its plan says, and nothing else: what it says of itself, the program that it has run, and the same
 * files with the same bytes, that belong to root and may do no more than planned. `most` bounds what may come out of it, in bytes.
 * Throws `KilnError('unverified')`.
 */
export const checkRpm = async (
  rpm: AsyncIterable<Buffer>,
  plan: PackagePlan,
  most: number,
): Promise<void> => {
  const header = plan.rpm;
  if (header === undefined) throw refuse(plan, 'has no plan of an RPM package');
  const reader = createByteReader(rpm);
  const tags = await readRpmHeaders(reader);
  checkTags(tags, header, plan);
  const listed = listedFiles(tags, plan);
  let size = 0;
  if (!(await reader.peek(XZ.length)).subarray(0, XZ.length).equals(XZ))
    throw refuse(plan, 'is not packed with xz');
  const cpio = await decompress(reader.rest(), (bytes) => {
    size += bytes;
    if (size > most) throw refuse(plan, `unpacks to over ${most} bytes`);
  });
  const found = new Set<string>();
  await readCpio(
    cpio,
    async (entry, body) => {
      const place = entry.name.replace(/^\./, '');
      const expected = listed.get(place);
      const hash = createHash('sha256');
      for await (const piece of body) hash.update(piece);
      if (expected === undefined || found.has(place) || entry.type !== expected.type)
        throw refuse(plan, `unpacks ${JSON.stringify(place)}, which it does not list`);
      found.add(place);
      if (
        expected.type === 'file' &&
        (hash.digest('hex') !== expected.sha256 || entry.size !== expected.size)
      )
        throw refuse(plan, `has other bytes in ${place} than it lists`);
    },
    ENTRIES,
  );
  for (const place of listed.keys()) if (!found.has(place)) throw refuse(plan, `lacks ${place}`);
};

interface Listed {
  readonly type: 'file' | 'directory';
  readonly sha256: string;
  readonly size: number;
}

const DIRECTORY = 0o040755;
const FILE = 0o100644;
const PROGRAM = 0o100755;
/** `%doc`, by which rpm leaves a file out where documents are not wanted. */
const MARKS: ReadonlySet<number> = new Set([0, 2]);

/** The files that a package lists, each of them planned. */
const listedFiles = (tags: RpmTags, plan: PackagePlan): ReadonlyMap<string, Listed> => {
  const directories = new Set(ownedDirectories(plan.files));
  const planned = new Map(plan.files.map((file) => [file.place, file]));
  const columns = fileColumns(tags, plan);
  const homes = tags.texts('dirnames');
  const listed = new Map<string, Listed>();
  columns.names.forEach((name, at) => {
    const place = `${homes[columns.homes[at] ?? -1] ?? ''}${name}`;
    const file = planned.get(place);
    const isDirectory = file === undefined && directories.has(place);
    const mode = isDirectory ? DIRECTORY : file?.executable === true ? PROGRAM : FILE;
    if (file === undefined && !isDirectory)
      throw refuse(plan, `lists ${JSON.stringify(place)}, which is not planned`);
    if (columns.modes[at] !== mode)
      throw refuse(plan, `lists ${place} with other permissions than planned`);
    if (columns.users[at] !== 'root' || columns.groups[at] !== 'root')
      throw refuse(plan, `lists ${place}, which is not root’s`);
    if (!MARKS.has(columns.marks[at] ?? -1) || columns.links[at] !== '')
      throw refuse(plan, `lists ${place} as something else than a file`);
    // rpm makes files of one inode one file, and leaves out what its flags say when it verifies.
    if (
      columns.inodes[at] !== at + 1 ||
      columns.devices[at] !== 1 ||
      columns.verified[at] !== ALL ||
      columns.languages[at] !== '' ||
      columns.times[at] !== SOURCE_DATE_EPOCH
    )
      throw refuse(plan, `lists ${place} in another way than rpmbuild does`);
    const sha256 = columns.digests[at] ?? '';
    if (file === undefined ? sha256 !== '' : !holds(sha256, file))
      throw refuse(plan, `lists other bytes for ${place} than planned`);
    if (listed.has(place)) throw refuse(plan, `lists ${place} twice`);
    const size = columns.sizes[at] ?? 0;
    listed.set(place, { type: isDirectory ? 'directory' : 'file', sha256, size });
  });
  for (const place of planned.keys()) if (!listed.has(place)) throw refuse(plan, `lacks ${place}`);
  return listed;
};

const ALL = 0xffffffff;

/** What the header has of each file, in lists that are equally long. */
const fileColumns = (tags: RpmTags, plan: PackagePlan) => {
  const columns = {
    names: tags.texts('basenames'),
    homes: tags.numbers('dirindexes'),
    modes: tags.numbers('filemodes'),
    marks: tags.numbers('fileflags'),
    users: tags.texts('fileusername'),
    groups: tags.texts('filegroupname'),
    digests: tags.texts('filedigests'),
    links: tags.texts('filelinktos'),
    sizes: tags.numbers('filesizes'),
    times: tags.numbers('filemtimes'),
    verified: tags.numbers('fileverifyflags'),
    devices: tags.numbers('filedevices'),
    inodes: tags.numbers('fileinodes'),
    languages: tags.texts('filelangs'),
  };
  for (const column of Object.values(columns))
    if (column.length !== columns.names.length)
      throw refuse(plan, 'does not say the same of each file');
  return columns;
};

const holds = (sha256: string, { content }: PlannedFile): boolean => {
  if ('blob' in content) return toDigest(sha256) === content.blob;
  return 'text' in content && createHash('sha256').update(content.text).digest('hex') === sha256;
};

/** rpm's own requirements, of what reads the package. */
const OF_RPM = /^rpmlib\(\w+\) <= [0-9.]+-1 rpm$/;
/** `RPMSENSE_LESS` and the other bits of a relation that packages of ours have (source: rpm's `rpmds.h`). */
const SENSE = {
  less: 2,
  greater: 4,
  equal: 8,
  interpreter: 1 << 8,
  preun: 1 << 11,
  rpmlib: 1 << 24,
};
/** `%transfiletriggerin` and `%transfiletriggerpostun`. */
const TRIGGER_IN = 1 << 16;
const TRIGGER_POSTUN = 1 << 18;

const checkTags = (tags: RpmTags, header: RpmHeader, plan: PackagePlan): void => {
  const said: readonly (readonly [
    what: string,
    found: readonly unknown[],
    planned: readonly unknown[],
  ])[] = [
    ['name', tags.texts('name'), [header.name]],
    ['version', tags.texts('version'), [header.version]],
    ['release', tags.texts('release'), [header.release]],
    ['architecture', tags.texts('arch'), [header.arch]],
    ['license', tags.texts('license'), [header.license]],
    ['summary', tags.texts('summary'), [header.summary]],
    ['system', tags.texts('os'), ['linux']],
    ['group', tags.texts('group'), [RPM_GROUP]],
    ['packager', tags.texts('packager'), [RPM_PACKAGER]],
    [
      'changelog',
      [
        ...tags.numbers('changelogtime'),
        ...tags.texts('changelogname'),
        ...tags.texts('changelogtext'),
      ],
      [NOON, changedBy(header), RPM_CHANGE],
    ],
    ['time', tags.numbers('buildtime'), [SOURCE_DATE_EPOCH]],
    ['digests', tags.numbers('filedigestalgo'), [8]],
    ['languages', tags.texts('headeri18ntable'), ['C']],
    [
      'payload',
      [...tags.texts('payloadformat'), ...tags.texts('payloadcompressor')],
      ['cpio', 'xz'],
    ],
    ['provides', relations(tags, 'provide').sort(), header.provides.toSorted()],
    [
      'requires',
      relations(tags, 'require')
        .filter((each) => !OF_RPM.test(each))
        .sort(),
      [
        ...header.requires,
        ...(header.script === null ? [] : ['/bin/sh interpreter', '/bin/sh interpreter of preun']),
      ].sort(),
    ],
    [
      'scripts',
      tags.texts('transfiletriggerscripts'),
      twice(header.script && triggerScript(header.script)),
    ],
    [
      'removal',
      [...tags.texts('preun'), ...tags.texts('preunprog')],
      header.script === null ? [] : [removalScript(header.script), '/bin/sh'],
    ],
    ['interpreters', tags.texts('transfiletriggerscriptprog'), twice(header.script && '/bin/sh')],
    [
      'triggers',
      tags
        .texts('transfiletriggername')
        .map(
          (name, at) =>
            `${name} ${tags.numbers('transfiletriggerindex')[at]} ${tags.numbers('transfiletriggerflags')[at]}`,
        ),
      header.script === null
        ? []
        : ['/lib/modules', '/usr/lib/modules'].flatMap((place) => [
            `${place} 0 ${TRIGGER_IN}`,
            `${place} 1 ${TRIGGER_POSTUN}`,
          ]),
    ],
  ];
  for (const [what, found, planned] of said)
    if (JSON.stringify(found) !== JSON.stringify(planned))
      throw refuse(plan, `says something else of itself than planned (${what})`);
};

/** The changelog's day has no time: rpm takes noon. */
const NOON = SOURCE_DATE_EPOCH - (SOURCE_DATE_EPOCH % 86_400) + 43_200;

const twice = (text: string | null): readonly string[] => (text === null ? [] : [text, text]);

/** What a package requires or provides: `NAME`, or `NAME = VERSION`; what else is said of it comes behind. */
const relations = (tags: RpmTags, kind: 'require' | 'provide'): string[] => {
  const versions = tags.texts(`${kind}version`);
  const flags = tags.numbers(`${kind}flags`);
  return tags.texts(`${kind}name`).map((name, at) => {
    const sense = flags[at] ?? 0;
    const sign = `${sense & SENSE.less ? '<' : ''}${sense & SENSE.greater ? '>' : ''}${sense & SENSE.equal ? '=' : ''}`;
    const rest = sense & ~(SENSE.less | SENSE.greater | SENSE.equal);
    const marks =
      {
        0: '',
        [SENSE.interpreter]: 'interpreter',
        [SENSE.interpreter | SENSE.preun]: 'interpreter of preun',
        [SENSE.rpmlib]: 'rpm',
      }[rest] ?? `flags ${rest}`;
    return [name, sign, versions[at] ?? '', marks].filter((part) => part !== '').join(' ');
  });
};
