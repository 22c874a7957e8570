import 'reflect-metadata';
import { webcrypto, X509Certificate } from 'node:crypto';
import * as x509 from '@peculiar/x509';

/** Certificates as signers of modules have them, made for one test. */
export const makeCertificate = async (
  name: string,
  {
    bits = 2048,
    isAuthority = false,
    hasKeyId = true,
    serial = '1234',
    notBefore = '2026-01-01',
  }: {
    readonly bits?: number;
    readonly isAuthority?: boolean;
    readonly hasKeyId?: boolean;
    readonly serial?: string;
    readonly notBefore?: string;
  } = {},
): Promise<X509Certificate> => {
  const algorithm = {
    name: 'RSASSA-PKCS1-v1_5',
    hash: 'SHA-256',
    publicExponent: new Uint8Array([1, 0, 1]),
    modulusLength: bits,
  };
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned(
    {
      serialNumber: serial,
      name,
      notBefore: new Date(notBefore),
      notAfter: new Date('2036-01-01'),
      signingAlgorithm: algorithm,
      keys,
      extensions: [
        new x509.BasicConstraintsExtension(isAuthority, undefined, true),
        ...(hasKeyId
          ? [await x509.SubjectKeyIdentifierExtension.create(keys.publicKey, false, webcrypto)]
          : []),
      ],
    },
    webcrypto,
  );
  return new X509Certificate(certificate.toString('pem'));
};

const GUIDS = {
  x509: 'a159c0a5e494a74a87b5ab155c2bf072',
  x509Sha256: '92a4d23bc0967940b420fcf98ef103ed',
  x509Sha384: '6e877670c280e64eaad228b349a6865b',
  x509Sha512: '63bf6d440225da4cbcfa2465d2b0fe9d',
  /** Of a program, not of a certificate. */
  sha256: '2616c4c14c509240aca941f936934328',
} as const;

/** One `EFI_SIGNATURE_LIST` (UEFI 2.10, 32.4.1) with entries of one size. */
export const efiSignatureList = (
  kind: keyof typeof GUIDS,
  entries: readonly Buffer[],
  header = Buffer.alloc(0),
): Buffer => {
  const size = 16 + (entries[0]?.length ?? 0);
  const head = Buffer.alloc(28);
  head.write(GUIDS[kind], 0, 'hex');
  head.writeUInt32LE(28 + header.length + size * entries.length, 16);
  head.writeUInt32LE(header.length, 20);
  head.writeUInt32LE(size, 24);
  return Buffer.concat([head, header, ...entries.flatMap((entry) => [Buffer.alloc(16, 7), entry])]);
};
