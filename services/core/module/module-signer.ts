import { createHash, type X509Certificate } from 'node:crypto';
import { derOid, readDer, TAG } from '../format/der.ts';

/** A signer of modules as a kernel and a firmware see it. */
export interface ModuleSigner {
  /** The certificate in DER. */
  readonly certificate: Buffer;
  readonly subject: string;
  /** Lower-case hex. */
  readonly serial: string;
  /** The certificate's SHA-256 in hex. */
  readonly sha256: string;
  /** What a kernel calls its key: the subject key identifier, else the serial number; lower-case hex. */
  readonly keyId: string;
  readonly isAuthority: boolean;
  /** `rsa`, `ec`, …, and its bits where that is a number. */
  readonly keyType: string;
  readonly bits: number | null;
  /** Milliseconds since 1970. */
  readonly notBefore: number;
  readonly notAfter: number;
}

/** What a signing key is called: its certificate's SHA-256, in hex. */
export const certificateId = ({ raw }: Pick<X509Certificate, 'raw'>): string =>
  createHash('sha256').update(raw).digest('hex');

const SUBJECT_KEY_ID = derOid('2.5.29.14');
const EXTENSIONS = 0xa3;

/** What matters of a signer's certificate. */
export const moduleSigner = (certificate: X509Certificate): ModuleSigner => {
  const { raw, publicKey } = certificate;
  const serial = certificate.serialNumber.toLowerCase();
  return {
    certificate: raw,
    subject: certificate.subject.replaceAll('\n', ', '),
    serial,
    sha256: certificateId(certificate),
    keyId: subjectKeyId(raw) ?? serial,
    isAuthority: certificate.ca,
    keyType: publicKey.asymmetricKeyType ?? 'unknown',
    bits: publicKey.asymmetricKeyDetails?.modulusLength ?? null,
    notBefore: Date.parse(certificate.validFrom),
    notAfter: Date.parse(certificate.validTo),
  };
};

/** RFC 5280, 4.2.1.2. */
const subjectKeyId = (certificate: Buffer): string | null => {
  const inside = (bytes: Buffer | undefined) => readDer(bytes ?? Buffer.alloc(0));
  const signed = inside(inside(certificate)[0]?.value)[0];
  const extensions = inside(signed?.value).find(({ tag }) => tag === EXTENSIONS);
  const found = inside(inside(extensions?.value)[0]?.value)
    .map(({ value }) => readDer(value))
    .find(([oid]) => oid?.raw.equals(SUBJECT_KEY_ID));
  const [id] = inside(found?.at(-1)?.value);
  return id?.tag === TAG.octets ? id.value.toString('hex') : null;
};
