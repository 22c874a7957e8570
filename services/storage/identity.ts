import { createPrivateKey, createPublicKey, X509Certificate, type KeyObject } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { keyIdOf, type Identity, type Senders } from '../core/jobs/envelope.ts';
import { hasErrno, KilnError } from '../core/errors.ts';

/** Reads a role's own key (Ed25519, PEM, mode 0600). Throws `KilnError('bad-request')` saying what is wrong with it. */
export const readIdentity = (file: string): Identity => {
  const pem = readKeyFile(file);
  if ((statSync(file).mode & 0o077) !== 0)
    throw new KilnError('bad-request', `others may read the key ${file}; run chmod 600 ${file}`);
  const privateKey = parse(file, () => createPrivateKey(pem));
  const publicKey = createPublicKey(privateKey);
  return { id: keyIdOf(publicKey), privateKey, publicKey };
};

/** Reads one or more public keys (Ed25519, PEM, one after another). Throws `KilnError('bad-request')`. */
export const readSenders = (file: string): Senders => {
  const pems = readKeyFile(file).match(/-----BEGIN PUBLIC KEY-----[^-]+-----END PUBLIC KEY-----/g);
  if (pems === null)
    throw new KilnError('bad-request', `${file} holds no public key in PEM; kilnd keys makes it`);
  return new Map(
    pems.map((pem) => {
      const key = parse(file, () => createPublicKey(pem));
      return [keyIdOf(key), key];
    }),
  );
};

/** Reads a certificate (PEM). Throws `KilnError('bad-request')`. */
export const readCertificate = (file: string): X509Certificate => {
  const pem = readKeyFile(file);
  try {
    return new X509Certificate(pem);
  } catch (cause) {
    throw new KilnError(
      'bad-request',
      `${file} is not a certificate in PEM; kilnd keys makes one`,
      { cause },
    );
  }
};

const parse = (file: string, read: () => KeyObject): KeyObject => {
  let key: KeyObject | undefined;
  try {
    key = read();
  } catch (cause) {
    throw new KilnError('bad-request', `${file} is not a key in PEM; kilnd keys makes one`, {
      cause,
    });
  }
  if (key.asymmetricKeyType === 'ed25519') return key;
  throw new KilnError('bad-request', `${file} is not an Ed25519 key; kilnd keys makes one`);
};

const readKeyFile = (file: string): string => {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    if (!hasErrno(cause, 'ENOENT')) throw cause;
    throw new KilnError('bad-request', `the key ${file} is missing; kilnd keys makes it`, {
      cause,
    });
  }
};
