import { createPrivateKey, sign, X509Certificate, type KeyObject } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { hasErrno, KilnError } from '../core/errors.ts';
import { certificateId } from '../core/module/module-signer.ts';
import { readRepositoryKey, type RepositoryKey } from '../storage/openpgp.ts';
import type { RawSigner } from '../core/module/module-signature.ts';

/** A signing key with its certificate. Only the signer's process ever has one. */
export interface SigningKey extends RawSigner {
  readonly certificate: X509Certificate;
  /** The certificate's SHA-256, in hex: what the key is called. */
  readonly id: string;
}

/**
 * Loads the key (PEM, private, mode 0600) and certificate (PEM) from files; `kilnd keys` makes both.
 * Throws `KilnError('bad-request')` if one lacks the other, they do not belong together, or others may read the key.
 */
export const loadSigningKey = async (
  keyFile: string,
  certificateFile: string,
): Promise<SigningKey> => {
  const keyPem = await readIfThere(keyFile);
  if (keyPem === null)
    throw new KilnError(
      'bad-request',
      `the signing key ${keyFile} is missing; kilnd keys makes one`,
    );
  await mustBePrivate(keyFile, 'the signing key');
  const certificatePem = await readIfThere(certificateFile);
  if (certificatePem === null)
    throw new KilnError(
      'bad-request',
      `the signing key’s certificate ${certificateFile} is missing; put it back beside the key`,
    );
  const privateKey = createPrivateKey(keyPem);
  const certificate = new X509Certificate(certificatePem);
  if (!certificate.checkPrivateKey(privateKey)) {
    throw new KilnError(
      'bad-request',
      `the certificate ${certificateFile} does not belong to the key ${keyFile}; give the one that was made with it`,
    );
  }
  if (privateKey.asymmetricKeyType !== 'rsa') {
    throw new KilnError(
      'bad-request',
      'the signing key is not RSA, all that kernels before 6.4 take; kilnd keys makes one',
    );
  }
  return keyOf(privateKey, certificate);
};

/** Loads the key of package repositories (OpenPGP, armored, mode 0600); `kilnd keys` makes one. Throws `KilnError('bad-request')`. */
export const loadRepositoryKey = async (file: string): Promise<RepositoryKey> => {
  const armored = await readIfThere(file);
  if (armored === null)
    throw new KilnError(
      'bad-request',
      `the repository’s key ${file} is missing; kilnd keys makes one`,
    );
  await mustBePrivate(file, 'the repository’s key');
  return readRepositoryKey(armored.toString('utf8'));
};

const mustBePrivate = async (file: string, what: string): Promise<void> => {
  const { mode } = await stat(file);
  if ((mode & 0o077) !== 0)
    throw new KilnError('bad-request', `others may read ${what} ${file}; run chmod 600 ${file}`);
};

const keyOf = (privateKey: KeyObject, certificate: X509Certificate): SigningKey => ({
  certificate,
  id: certificateId(certificate),
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
