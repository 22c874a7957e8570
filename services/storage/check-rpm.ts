import { createHash } from 'node:crypto';
import { isSameJson } from '../core/format/canonical-json.ts';
import { KilnError } from '../core/errors.ts';
import type { PackagePlan } from '../core/packages/plan.ts';
import { unpackXz } from './decompress.ts';
import { plannedTags, type PlannedEntry, plannedEntries } from './planned-rpm.ts';
import { readRpm, RPM_TAGS, type RpmTag, type RpmValues } from './rpm-header.ts';

const refuse = (plan: PackagePlan, what: string): KilnError =>
  new KilnError('unverified', `${plan.file} ${what}`);

const XZ = Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]);
/** What rpm itself takes to unpack xz. */
const XZ_MEMORY = '100MiB';

/**
 * Checks that an RPM package is what its plan says, and nothing else: each tag of its header, and the same files with the same bytes. It must
 * be of the one form that rpmbuild writes. `most` bounds what may come out of it, in bytes. Throws `KilnError('unverified')`.
 */
export const checkRpm = async (rpm: Buffer, plan: PackagePlan, most: number): Promise<void> => {
  const { tags, payload } = readRpm(rpm);
  if (!payload.subarray(0, XZ.length).equals(XZ)) throw refuse(plan, 'is not packed with xz');
  const cpio = await unpackXz(payload, most, XZ_MEMORY);
  if (cpio === 'too-large') throw refuse(plan, `unpacks to over ${most} bytes`);
  if (cpio === 'broken') throw refuse(plan, 'cannot be unpacked');
  const entries = plannedEntries(plan);
  const sizes = readPayload(cpio, entries, plan);
  const planned = plannedTags(plan, entries, {
    sizes,
    payload: sha256(payload),
    cpio: sha256(cpio),
  });
  for (const tag of Object.keys(RPM_TAGS) as RpmTag[]) {
    const found = tags[tag] ?? [];
    const expected = planned[tag] ?? [];
    if (typeof expected === 'function' ? !expected(found) : !isSameJson(found, expected))
      throw refuse(plan, `says something else of itself than planned (${tag})`);
  }
  if (!isSameJson(relations(tags, 'provide'), sorted(planned.provides)))
    throw refuse(plan, 'provides something else than planned');
  if (!isSameJson(relations(tags, 'require'), sorted(planned.requires)))
    throw refuse(plan, 'requires something else than planned');
};

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

const sorted = (relations: readonly (readonly unknown[])[]): readonly string[] =>
  relations.map((each) => JSON.stringify(each)).sort();

const relations = (
  tags: Readonly<Partial<Record<RpmTag, RpmValues>>>,
  kind: 'require' | 'provide',
): readonly string[] => {
  const [names, flags, versions] = [
    tags[`${kind}name`] ?? [],
    tags[`${kind}flags`] ?? [],
    tags[`${kind}version`] ?? [],
  ];
  return sorted(
    Array.from({ length: Math.max(names.length, flags.length, versions.length) }, (_, at) => [
      names[at] ?? null,
      flags[at] ?? null,
      versions[at] ?? null,
    ]),
  );
};

const CPIO_HEADER = 110;
const TRAILER = 'TRAILER!!!';

/** Reads the payload, a cpio archive of the entries in their order and nothing behind them (source: cpio(5), "new ASCII"); their sizes. */
const readPayload = (
  cpio: Buffer,
  entries: readonly PlannedEntry[],
  plan: PackagePlan,
): readonly number[] => {
  let at = 0;
  const padded = (length: number): Buffer => {
    const bytes = cpio.subarray(at, at + length);
    const end = at + Math.ceil(length / 4) * 4;
    if (bytes.length < length || end > cpio.length || cpio.subarray(at + length, end).some(Boolean))
      throw refuse(plan, 'has a payload that is malformed');
    at = end;
    return bytes;
  };
  const next = (): { readonly name: string; readonly mode: number; readonly size: number } => {
    const header = cpio.toString('latin1', at, at + CPIO_HEADER);
    if (!/^070701[0-9a-f]{104}$/.test(header))
      throw refuse(plan, 'has a payload that is malformed');
    const field = (index: number): number =>
      Number.parseInt(header.slice(6 + index * 8, 14 + index * 8), 16);
    const name = padded(CPIO_HEADER + field(11)).toString('utf8', CPIO_HEADER);
    return { name, mode: field(1), size: field(6) };
  };
  const sizes = entries.map((entry) => {
    const { name, mode, size } = next();
    if (name !== `.${entry.place}\0` || mode !== entry.mode)
      throw refuse(plan, `unpacks ${JSON.stringify(name)} where ${entry.place} is to be`);
    const bytes = padded(size);
    if (entry.sha256 === null ? size > 0 : sha256(bytes) !== entry.sha256)
      throw refuse(plan, `has other bytes in ${entry.place} than planned`);
    return size;
  });
  const { name, size } = next();
  if (name !== `${TRAILER}\0` || size !== 0 || cpio.subarray(at).some(Boolean))
    throw refuse(plan, 'unpacks more than planned');
  return sizes;
};
