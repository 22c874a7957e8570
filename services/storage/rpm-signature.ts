import { createHash } from 'node:crypto';
import { KilnError } from '../core/errors.ts';
import { checkBytes, signBytes, type RepositoryKey } from './openpgp.ts';
import { readRpm, writeRpmSignatures, type ReadRpm } from './rpm-header.ts';

/** The signature of an RPM package, which is of its main header; that has the payload's digest (source: rpmsign(1), rpm's `rpmsigtag`). */

/** A package with a signature in it: the same bytes, whenever it is made. Throws `unverified` where it is no package of ours. */
export const signRpm = async (rpm: Buffer, key: RepositoryKey): Promise<Buffer> => {
  const read = readRpm(rpm);
  return withSignature(read, await signBytes(read.header, key));
};

/** Checks that a package is another one with the key's signature in it, and nothing else. Throws `unverified`. */
export const checkSignedRpm = async (
  signed: Buffer,
  rpm: Buffer,
  publicKey: string,
): Promise<void> => {
  const { signature, header } = readRpm(signed);
  if (signature === null || !withSignature(readRpm(rpm), signature).equals(signed))
    throw new KilnError('unverified', 'it is not the package that was made with a signature in it');
  await checkBytes(header, signature, publicKey);
};

const withSignature = ({ lead, header, rest }: ReadRpm, signature: Buffer): Buffer => {
  const sha256 = createHash('sha256').update(header).digest('hex');
  return Buffer.concat([lead, writeRpmSignatures({ signature, sha256, size: rest.length }), rest]);
};
