import { createHash, type X509Certificate } from 'node:crypto';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { readDer } from '../../services/core/format/der.ts';
import {
  hasCertificate,
  isRevoked,
  joinSignatures,
  NO_SIGNATURES,
  readEfiSignatures,
} from '../../services/core/secure-boot/efi-signatures.ts';
import { efiSignatureList, makeCertificate } from './certificates.ts';

let one: X509Certificate;
let two: X509Certificate;
beforeAll(async () => {
  [one, two] = await Promise.all([makeCertificate('CN=One'), makeCertificate('CN=Two')]);
});

describe('an EFI signature database', () => {
  it('gives the certificates of all its lists, and passes over what else is in it', () => {
    const bytes = Buffer.concat([
      efiSignatureList('x509', [one.raw]),
      efiSignatureList('sha256', [Buffer.alloc(32, 1), Buffer.alloc(32, 2)]),
      efiSignatureList('x509', [two.raw], Buffer.alloc(5)),
    ]);
    const { certificates, isWhole } = readEfiSignatures(bytes);
    expect(certificates).toEqual([one.raw, two.raw]);
    expect(isWhole).toBe(true);
  });

  it('that is empty has nothing', () => {
    expect(readEfiSignatures(Buffer.alloc(0))).toEqual(NO_SIGNATURES);
  });

  it('has its certificates, by their bytes', () => {
    const held = joinSignatures([
      readEfiSignatures(efiSignatureList('x509', [one.raw])),
      NO_SIGNATURES,
    ]);
    expect(hasCertificate(held, one.raw)).toBe(true);
    expect(hasCertificate(held, two.raw)).toBe(false);
  });

  it('revokes a certificate that is in it, or the digest of whose signed part is', () => {
    const part = readDer(readDer(one.raw)[0]?.value ?? Buffer.alloc(0))[0]?.raw ?? '';
    const digest = (hash: string): Buffer =>
      Buffer.concat([createHash(hash).update(part).digest(), Buffer.alloc(16)]);
    for (const list of [
      efiSignatureList('x509', [one.raw]),
      efiSignatureList('x509Sha256', [digest('sha256')]),
      efiSignatureList('x509Sha384', [digest('sha384')]),
      efiSignatureList('x509Sha512', [digest('sha512')]),
    ]) {
      const revoked = readEfiSignatures(list);
      expect(isRevoked(revoked, one.raw)).toBe(true);
      expect(isRevoked(revoked, two.raw)).toBe(false);
    }
    expect(
      isRevoked(readEfiSignatures(efiSignatureList('sha256', [digest('sha256')])), one.raw),
    ).toBe(false);
  });

  const spoilt = (at: number, value: number): Buffer => {
    const list = efiSignatureList('x509', [one.raw]);
    list.writeUInt32LE(value, at);
    return list;
  };

  it.each<[string, () => Buffer]>([
    ['cut short', () => efiSignatureList('x509', [one.raw]).subarray(0, -1)],
    ['a list of no size', () => spoilt(16, 0)],
    ['a list of four gigabytes', () => spoilt(16, 0xffffffff)],
    ['a header beyond the list', () => spoilt(20, 0xffffffff)],
    ['entries of no size', () => spoilt(24, 0)],
    ['entries without data', () => spoilt(24, 16)],
    ['entries that do not fill the list', () => spoilt(24, one.raw.length + 15)],
    ['half a head', () => Buffer.alloc(20)],
  ])('is read up to what is malformed: %s', (_, bad) => {
    const read = readEfiSignatures(Buffer.concat([efiSignatureList('x509', [two.raw]), bad()]));
    expect(read.certificates).toEqual([two.raw]);
    expect(read.isWhole).toBe(false);
  });
});
