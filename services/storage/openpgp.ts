import {
  createCleartextMessage,
  createMessage,
  enums,
  generateKey,
  readCleartextMessage,
  readKey,
  readPrivateKey,
  readSignature,
  sign,
  verify,
  type PrivateKey,
  type Signature,
} from 'openpgp';
import { KilnError } from '../core/errors.ts';

/** OpenPGP, as package managers want it: the one file that imports openpgp. */

/** A key that signs repositories. */
export type RepositoryKey = PrivateKey;

const CONFIG = {
  preferredHashAlgorithm: enums.hash.sha512,
  nonDeterministicSignaturesViaNotation: false,
};

/** A new key pair, both armored. RSA, which the gpg, sqv and rpm of every supported distribution verify. */
export const makeRepositoryKey = async (): Promise<{
  readonly privateKey: string;
  readonly publicKey: string;
}> =>
  generateKey({
    type: 'rsa',
    rsaBits: 3072,
    userIDs: [{ name: 'Kiln repository' }],
    format: 'armored',
  });

/** A private key from its armored text. Throws `bad-request`. */
export const readRepositoryKey = async (armored: string): Promise<RepositoryKey> => {
  try {
    const key = await readPrivateKey({ armoredKey: armored });
    if (!key.isDecrypted()) throw new Error('it has a passphrase');
    return key;
  } catch (cause) {
    throw new KilnError(
      'bad-request',
      'the repository’s key is not an armored OpenPGP private key without a passphrase; kilnd keys makes one',
      { cause },
    );
  }
};

/** The armored public key of a private one. */
export const publicKeyOf = (key: RepositoryKey): string => key.toPublic().armor();

/** Whether two armored public keys are the same one, however they are written. */
export const isSameKey = async (one: string, other: string): Promise<boolean> => {
  const [first, second] = await Promise.all(
    [one, other].map((armoredKey) => readKey({ armoredKey })),
  );
  return first?.getFingerprint() === second?.getFingerprint();
};

/** A text with its signature around it, as `InRelease` is. */
export const signInline = async (text: string, key: RepositoryKey): Promise<string> =>
  sign({ message: await createCleartextMessage({ text }), signingKeys: key, config: CONFIG });

/** The armored signature of a text. */
export const signDetached = async (text: string, key: RepositoryKey): Promise<string> =>
  sign({
    message: await createMessage({ binary: Buffer.from(text) }),
    signingKeys: key,
    detached: true,
    config: CONFIG,
  });

/** The signature of bytes, the same whenever it is made: its time is the key's. */
export const signBytes = async (bytes: Buffer, key: RepositoryKey): Promise<Buffer> =>
  Buffer.from(
    await sign({
      message: await createMessage({ binary: bytes }),
      signingKeys: key,
      detached: true,
      format: 'binary',
      date: key.getCreationTime(),
      config: CONFIG,
    }),
  );

/** Checks that the key made the signature of bytes. Throws `unverified`. */
export const checkBytes = (bytes: Buffer, signature: Buffer, publicKey: string): Promise<void> =>
  mustBeSigned(bytes, () => readSignature({ binarySignature: signature }), publicKey);

/** Checks that the key made the armored signature of a text. Throws `unverified`. */
export const checkDetached = (text: string, armored: string, publicKey: string): Promise<void> =>
  mustBeSigned(Buffer.from(text), () => readSignature({ armoredSignature: armored }), publicKey);

const mustBeSigned = async (
  bytes: Buffer,
  read: () => Promise<Signature>,
  publicKey: string,
): Promise<void> => {
  try {
    const { signatures } = await verify({
      message: await createMessage({ binary: bytes }),
      signature: await read(),
      verificationKeys: await readKey({ armoredKey: publicKey }),
    });
    await signatures[0]?.verified;
    if (signatures.length !== 1) throw new Error('not one signature');
  } catch (cause) {
    throw new KilnError('unverified', 'its signature is not the repository key’s', { cause });
  }
};

/** The text in an inline signature that the key made. Throws `unverified`. */
export const readInline = async (signed: string, publicKey: string): Promise<string> => {
  try {
    const { data, signatures } = await verify({
      message: await readCleartextMessage({ cleartextMessage: signed }),
      verificationKeys: await readKey({ armoredKey: publicKey }),
    });
    await signatures[0]?.verified;
    if (signatures.length !== 1) throw new Error('not one signature');
    return data;
  } catch (cause) {
    throw new KilnError('unverified', 'its signature is not the repository key’s', { cause });
  }
};
