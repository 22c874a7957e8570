import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { KilnError } from '../core/errors.ts';
import { createByteReader } from './byte-reader.ts';
import { checkBytes, signBytes, type RepositoryKey } from './openpgp.ts';
import { readRpmSignature, writeRpmSignatures } from './rpm-header.ts';

/** The signature of an RPM package, which is of its header; that has the payload's digest (source: rpmsign(1), rpm's `rpmsigtag`). */

/** A package with a signature in it: the same bytes, whenever it is made. `rpm` was checked already. */
export const signRpm = async (rpm: Buffer, key: RepositoryKey): Promise<Buffer> =>
  withSignature(rpm, await signBytes(partsOf(rpm).header, key));

/** Checks that a package is another one with the key's signature in it, and nothing else. Throws `unverified`. */
export const checkSignedRpm = async (
  signed: Buffer,
  rpm: Buffer,
  publicKey: string,
): Promise<void> => {
  const reader = createByteReader(Readable.from([signed], { objectMode: false }));
  const signature = await readRpmSignature(reader);
  if (signature === null || !withSignature(rpm, signature).equals(signed))
    throw new KilnError('unverified', 'it is not the package that was made with a signature in it');
  await checkBytes(partsOf(rpm).header, signature, publicKey);
};

const withSignature = (rpm: Buffer, signature: Buffer): Buffer => {
  const { lead, header, rest } = partsOf(rpm);
  const sha256 = createHash('sha256').update(header).digest('hex');
  const signatures = writeRpmSignatures({ signature, sha256, size: rest.length });
  return Buffer.concat([lead, signatures, rest]);
};

const LEAD = 96;
const INTRO = 16;

/** The parts of a package that was checked: the lead, the main header, and all from that on. */
const partsOf = (rpm: Buffer) => {
  const sizeAt = (at: number): number =>
    INTRO + rpm.readUInt32BE(at + 8) * 16 + rpm.readUInt32BE(at + 12);
  const begin = LEAD + Math.ceil(sizeAt(LEAD) / 8) * 8;
  const rest = rpm.subarray(begin);
  return { lead: rpm.subarray(0, LEAD), header: rest.subarray(0, sizeAt(begin)), rest };
};
