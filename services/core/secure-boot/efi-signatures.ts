import { createHash } from 'node:crypto';
import { readDer } from '../format/der.ts';

/** The X.509 entries of an EFI signature database (`db`, `dbx`, `MokListRT`, `MokNew`), and whether all of it could be read. */
export interface EfiSignatures {
  /** Certificates, in DER. */
  readonly certificates: readonly Buffer[];
  /** Digests, in hex, of the to-be-signed parts of certificates: how `dbx` revokes one without naming it whole. */
  readonly revokedParts: readonly string[];
  readonly isWhole: boolean;
}

/** A database that has nothing in it. */
export const NO_SIGNATURES: EfiSignatures = { certificates: [], revokedParts: [], isWhole: true };

const LIST_HEADER = 28;
const OWNER = 16;
/** `EFI_CERT_X509_GUID`. */
const X509 = 'a159c0a5e494a74a87b5ab155c2bf072';
/** `EFI_CERT_X509_SHA256_GUID` and its kin, with the bytes of their digests; a revocation time follows each. */
const X509_DIGESTS: ReadonlyMap<string, number> = new Map([
  ['92a4d23bc0967940b420fcf98ef103ed', 32],
  ['6e877670c280e64eaad228b349a6865b', 48],
  ['63bf6d440225da4cbcfa2465d2b0fe9d', 64],
]);

/**
 * Reads consecutive `EFI_SIGNATURE_LIST`s (UEFI 2.10, 32.4.1). Entries of other kinds are passed over; reading stops at the first malformed
 * list.
 */
export const readEfiSignatures = (bytes: Buffer): EfiSignatures => {
  const certificates: Buffer[] = [];
  const revokedParts: string[] = [];
  let at = 0;
  while (at + LIST_HEADER <= bytes.length) {
    const kind = bytes.toString('hex', at, at + 16);
    const listSize = bytes.readUInt32LE(at + 16);
    const headerSize = bytes.readUInt32LE(at + 20);
    const size = bytes.readUInt32LE(at + 24);
    const start = at + LIST_HEADER + headerSize;
    const end = at + listSize;
    if (listSize < LIST_HEADER || end > bytes.length || start > end || size <= OWNER) break;
    if ((end - start) % size !== 0) break;
    const digestSize = X509_DIGESTS.get(kind);
    for (let entry = start; entry < end; entry += size) {
      const data = bytes.subarray(entry + OWNER, entry + size);
      if (kind === X509) certificates.push(data);
      if (digestSize !== undefined) revokedParts.push(data.toString('hex', 0, digestSize));
    }
    at = end;
  }
  return { certificates, revokedParts, isWhole: at === bytes.length };
};

/** Several databases as one. */
export const joinSignatures = (all: readonly EfiSignatures[]): EfiSignatures => ({
  certificates: all.flatMap(({ certificates }) => certificates),
  revokedParts: all.flatMap(({ revokedParts }) => revokedParts),
  isWhole: all.every(({ isWhole }) => isWhole),
});

/** Whether a database has a certificate (DER). */
export const hasCertificate = (held: EfiSignatures, certificate: Buffer): boolean =>
  held.certificates.some((each) => each.equals(certificate));

/** Whether `dbx` or `MokListXRT` revokes a certificate (DER): by itself, or by a digest of its to-be-signed part. */
export const isRevoked = (revoked: EfiSignatures, certificate: Buffer): boolean => {
  if (hasCertificate(revoked, certificate)) return true;
  if (revoked.revokedParts.length === 0) return false;
  const signed = readDer(readDer(certificate)[0]?.value ?? Buffer.alloc(0))[0]?.raw;
  if (signed === undefined) return false;
  return ['sha256', 'sha384', 'sha512'].some((hash) =>
    revoked.revokedParts.includes(createHash(hash).update(signed).digest('hex')),
  );
};
