import { verify, X509Certificate } from 'node:crypto';
import { der, derOid, readDer, TAG } from '../format/der.ts';
import { KilnError } from '../errors.ts';

/** Digest algorithms that the kernel takes (`crypto/asymmetric_keys/pkcs7_parser.c`) and Node has. */
export const HASHES = ['sha224', 'sha256', 'sha384', 'sha512'] as const;
export type SignatureHash = (typeof HASHES)[number];

const HASH_OIDS: Readonly<Record<SignatureHash, string>> = {
  sha224: '2.16.840.1.101.3.4.2.4',
  sha256: '2.16.840.1.101.3.4.2.1',
  sha384: '2.16.840.1.101.3.4.2.2',
  sha512: '2.16.840.1.101.3.4.2.3',
};

/** Tells whether a kernel's `CONFIG_MODULE_SIG_HASH` is one that Kiln signs with. */
export const isSignatureHash = (name: string): name is SignatureHash =>
  Object.hasOwn(HASH_OIDS, name);

const OID = {
  data: '1.2.840.113549.1.7.1',
  signedData: '1.2.840.113549.1.7.2',
  rsaEncryption: '1.2.840.113549.1.1.1',
};
const MAGIC = Buffer.from('~Module signature appended~\n', 'latin1');
const TRAILER_SIZE = 12;
const PKEY_ID_PKCS7 = 2;

/** Signs a message with the private key it keeps: RSA, PKCS#1 v1.5. */
export interface RawSigner {
  sign(hash: SignatureHash, message: Uint8Array): Promise<Buffer>;
}

/**
 * A module with the kernel's signature behind it, byte for byte what `scripts/sign-file` makes: PKCS#7 SignedData without
 * content, certificates or attributes, then `struct module_signature` (`include/linux/module_signature.h`) and the magic string.
 */
export const signModule = async (
  module: Buffer,
  hash: SignatureHash,
  certificate: X509Certificate,
  signer: RawSigner,
): Promise<Buffer> => {
  return assemble(module, hash, certificate, await signer.sign(hash, module));
};

/** Module, PKCS#7, trailer and magic: one way to write each signature, so that no byte of it can be changed unseen. */
const assemble = (
  module: Buffer,
  hash: SignatureHash,
  certificate: X509Certificate,
  signature: Buffer,
): Buffer => {
  const algorithm = der(TAG.sequence, derOid(HASH_OIDS[hash]));
  const signerInfo = der(
    TAG.sequence,
    der(TAG.integer, Buffer.from([1])),
    issuerAndSerial(certificate),
    algorithm,
    der(TAG.sequence, derOid(OID.rsaEncryption), der(TAG.null)),
    der(TAG.octets, signature),
  );
  const signedData = der(
    TAG.sequence,
    der(TAG.integer, Buffer.from([1])),
    der(TAG.set, algorithm),
    der(TAG.sequence, derOid(OID.data)),
    der(TAG.set, signerInfo),
  );
  const pkcs7 = der(TAG.sequence, derOid(OID.signedData), der(TAG.context0, signedData));
  const trailer = Buffer.alloc(TRAILER_SIZE);
  trailer.writeUInt8(PKEY_ID_PKCS7, 2);
  trailer.writeUInt32BE(pkcs7.length, 8);
  return Buffer.concat([module, pkcs7, trailer, MAGIC]);
};

/** Issuer and serial number as they stand in the certificate (RFC 5652, 10.2.4). */
const issuerAndSerial = (certificate: X509Certificate): Buffer => {
  const tbs = readDer(readDer(certificate.raw)[0]?.value ?? Buffer.alloc(0))[0];
  const fields = readDer(tbs?.value ?? Buffer.alloc(0)).filter(({ tag }) => tag !== TAG.context0);
  const [serial, , issuer] = fields;
  if (serial === undefined || issuer === undefined)
    throw new RangeError('the DER encoding is not that of a certificate');
  return der(TAG.sequence, issuer.raw, serial.raw);
};

/** A signed module in its two parts. */
export interface SplitModule {
  readonly unsigned: Buffer;
  readonly pkcs7: Buffer;
}

/** Parts a module from the signature behind it; `null` if it has none. Throws `KilnError('unverified')` if it is malformed. */
export const splitModule = (bytes: Buffer): SplitModule | null => {
  if (!bytes.subarray(-MAGIC.length).equals(MAGIC)) return null;
  const trailerAt = bytes.length - MAGIC.length - TRAILER_SIZE;
  const size = trailerAt < 0 ? Infinity : bytes.readUInt32BE(trailerAt + 8);
  if (size > trailerAt || bytes[trailerAt + 2] !== PKEY_ID_PKCS7) {
    throw new KilnError('unverified', 'the module’s signature is malformed');
  }
  return {
    unsigned: bytes.subarray(0, trailerAt - size),
    pkcs7: bytes.subarray(trailerAt - size, trailerAt),
  };
};

/**
 * Checks a module's signature against the one certificate that is trusted, and gives back the unsigned bytes.
 * Throws `KilnError('unverified')`: unsigned, malformed, another signer, or other bytes than were signed.
 */
export const verifyModule = (bytes: Buffer, certificate: X509Certificate): Buffer => {
  const parts = splitModule(bytes);
  if (parts === null) throw new KilnError('unverified', 'the module is not signed');
  const { hash, signerId, signature } = readPkcs7(parts.pkcs7);
  if (!signerId.equals(issuerAndSerial(certificate))) {
    throw new KilnError(
      'unverified',
      'the module was signed with another key than the pinned certificate’s; if the service’s key was changed on purpose, pin the new one (kiln setup URL --replace-certificate --fingerprint SHA256)',
    );
  }
  if (!verify(hash, parts.unsigned, certificate.publicKey, signature)) {
    throw new KilnError('unverified', 'the module’s bytes are not those that were signed');
  }
  if (!assemble(parts.unsigned, hash, certificate, signature).equals(bytes)) {
    throw new KilnError('unverified', 'the module’s signature is malformed');
  }
  return parts.unsigned;
};

const readPkcs7 = (pkcs7: Buffer): { hash: SignatureHash; signerId: Buffer; signature: Buffer } => {
  try {
    const [, content] = readDer(readDer(pkcs7)[0]?.value ?? Buffer.alloc(0));
    const signedData = readDer(
      readDer(content?.value ?? Buffer.alloc(0))[0]?.value ?? Buffer.alloc(0),
    );
    const signerInfo = readDer(
      readDer(signedData.at(-1)?.value ?? Buffer.alloc(0))[0]?.value ?? Buffer.alloc(0),
    );
    const [, signerId, algorithm, , signature] = signerInfo;
    const oid = readDer(algorithm?.value ?? Buffer.alloc(0))[0]?.raw;
    const hash = Object.entries(HASH_OIDS).find(([, dotted]) => oid?.equals(derOid(dotted)))?.[0];
    if (
      signerId === undefined ||
      signature === undefined ||
      hash === undefined ||
      !isSignatureHash(hash)
    ) {
      throw new RangeError('the PKCS#7 message is not of the kind that sign-file makes');
    }
    return { hash, signerId: signerId.raw, signature: signature.value };
  } catch (cause) {
    throw new KilnError('unverified', 'the module’s signature is malformed', { cause });
  }
};
