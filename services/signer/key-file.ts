import 'reflect-metadata';
import {
  createHash,
  createPrivateKey,
  randomBytes,
  sign,
  webcrypto,
  X509Certificate,
  type KeyObject,
} from 'node:crypto';
import { chmod, link, readFile, rm, stat, writeFile } from 'node:fs/promises';
import * as x509 from '@peculiar/x509';
import { hasErrno, KilnError } from '../core/errors.ts';
import type { RawSigner } from '../core/module-signature.ts';

/** A signing key with its certificate. Only the signer's process ever has one. */
export interface SigningKey extends RawSigner {
  readonly certificate: X509Certificate;
  /** The certificate's SHA-256, in hex: what the key is called. */
  readonly id: string;
}

const YEARS = 10;
/** `codeSigning`, which the kernel and shim look for in a module's signer. */
const CODE_SIGNING = '1.3.6.1.5.5.7.3.3';

/**
 * Loads the key (PEM, private, mode 0600) and certificate (PEM) from files; makes both (RSA 4096, self-signed) if neither is there.
 * Throws `KilnError('bad-request')` if one lacks the other, they do not belong together, or others may read the key.
 */
export const loadSigningKey = async (
  keyFile: string,
  certificateFile: string,
): Promise<SigningKey> => {
  const keyPem = await readIfThere(keyFile);
  if (keyPem === null) await makeKey(keyFile, certificateFile);
  const { mode } = await stat(keyFile);
  if ((mode & 0o077) !== 0) {
    throw new KilnError('bad-request', `others may read the signing key ${keyFile}; chmod 600 it`);
  }
  const certificatePem = await readIfThere(certificateFile);
  if (certificatePem === null)
    throw new KilnError(
      'bad-request',
      `the signing key’s certificate ${certificateFile} is missing`,
    );
  const privateKey = createPrivateKey(await readFile(keyFile));
  const certificate = new X509Certificate(certificatePem);
  if (!certificate.checkPrivateKey(privateKey)) {
    throw new KilnError(
      'bad-request',
      `the certificate ${certificateFile} is not that of the key ${keyFile}`,
    );
  }
  if (privateKey.asymmetricKeyType !== 'rsa') {
    throw new KilnError(
      'bad-request',
      'the signing key is not RSA; kernels before 6.4 take no other',
    );
  }
  return keyOf(privateKey, certificate);
};

const keyOf = (privateKey: KeyObject, certificate: X509Certificate): SigningKey => ({
  certificate,
  id: createHash('sha256').update(certificate.raw).digest('hex'),
  sign: (hash, message) => Promise.resolve(sign(hash, message, privateKey)),
});

const readIfThere = async (file: string): Promise<Buffer | null> => {
  try {
    return await readFile(file);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return null;
    throw error;
  }
};

/** The certificate first, the key last: a key that is there has its certificate. */
const makeKey = async (keyFile: string, certificateFile: string): Promise<void> => {
  const algorithm = {
    name: 'RSASSA-PKCS1-v1_5',
    hash: 'SHA-256',
    publicExponent: new Uint8Array([1, 0, 1]),
    modulusLength: 4096,
  };
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const now = new Date();
  const until = new Date(now);
  until.setFullYear(now.getFullYear() + YEARS);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned(
    {
      serialNumber: randomBytes(16).toString('hex').replace(/^./, '1'),
      name: 'CN=Kiln module signing',
      notBefore: now,
      notAfter: until,
      signingAlgorithm: algorithm,
      keys,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([CODE_SIGNING]),
        await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      ],
    },
    webcrypto,
  );
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey));
  const pem = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' }).export({
    type: 'pkcs8',
    format: 'pem',
  });
  await writeFile(certificateFile, `${certificate.toString('pem')}\n`, { mode: 0o644 });
  const arrival = `${keyFile}.${process.pid}`;
  await writeFile(arrival, pem, { mode: 0o600, flag: 'wx', flush: true });
  await chmod(arrival, 0o600);
  await link(arrival, keyFile);
  await rm(arrival);
};
