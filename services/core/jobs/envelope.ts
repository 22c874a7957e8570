import { createHash, sign, verify, type KeyObject } from 'node:crypto';
import { z } from 'zod';
import { KilnError } from '../errors.ts';

/** The most that a message's payload may be, in characters: a build job with its dependencies and settings, or an outcome with all its modinfo. */
export const PAYLOAD_LIMIT = 32 * 1024 ** 2;

/**
 * A message as it travels. The payload is the very text that was signed. The carrier is not trusted: the signature covers the sender, the
 * place (a queue, a signal) and the message's name there.
 */
export const Envelope = z.strictObject({
  payload: z.string().max(PAYLOAD_LIMIT),
  /** The id of the sender's key (`keyIdOf`). */
  key: z.string().regex(/^[0-9a-f]{64}$/),
  /** Ed25519, in base64. */
  signature: z.string().regex(/^[A-Za-z0-9+/]{86}==$/),
});
export type Envelope = z.infer<typeof Envelope>;

/** The address of a message: a queue or signal, and its name there. */
export interface Address {
  readonly place: string;
  readonly name: string;
}

/** A role's own key. */
export interface Identity {
  readonly id: string;
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
}

/** The public keys whose messages are accepted at one place, by id. */
export type Senders = ReadonlyMap<string, KeyObject>;

/** The id of a public key: the SHA-256 of its DER form (SubjectPublicKeyInfo), in hex. */
export const keyIdOf = (publicKey: KeyObject): string =>
  createHash('sha256')
    .update(publicKey.export({ type: 'spki', format: 'der' }))
    .digest('hex');

/** A part of an address. Without line breaks, no two messages are signed as the same text. */
const WORD = /^[A-Za-z0-9_.-]{1,200}$/;

const signedText = ({ place, name }: Address, payload: string): Buffer => {
  if (!WORD.test(place) || !WORD.test(name))
    throw new KilnError(
      'unverified',
      `${JSON.stringify(name.slice(0, 80))} is not a name that a message can have`,
    );
  return Buffer.from(`kiln message v1\n${place}\n${name}\n${payload}`);
};

/** Signs a payload for its address. Throws `too-large` where nobody would read it. */
export const seal = (
  payload: string,
  to: Address,
  { id, privateKey }: Pick<Identity, 'id' | 'privateKey'>,
): Envelope => {
  if (payload.length > PAYLOAD_LIMIT)
    throw new KilnError(
      'too-large',
      `the message ${to.name} has ${payload.length} characters, over the limit of ${PAYLOAD_LIMIT}`,
    );
  return {
    payload,
    key: id,
    signature: sign(null, signedText(to, payload), privateKey).toString('base64'),
  };
};

/**
 * Opens an envelope that one of the senders wrote for this address: its payload, and the sender. Throws `KilnError('unverified')` for any
 * other, saying what is wrong.
 */
export const unseal = (
  message: unknown,
  at: Address,
  senders: Senders,
): { readonly payload: string; readonly sender: string } => {
  const envelope = Envelope.safeParse(message);
  if (!envelope.success) throw new KilnError('unverified', 'it is no signed message');
  const { payload, key, signature } = envelope.data;
  const sender = senders.get(key);
  if (sender === undefined)
    throw new KilnError(
      'unverified',
      `its key ${key.slice(0, 12)} is not among the keys that are configured here`,
    );
  if (!verify(null, signedText(at, payload), sender, Buffer.from(signature, 'base64')))
    throw new KilnError('unverified', 'its signature is not for this message and place');
  return { payload, sender: key };
};
