import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';
import {
  keyIdOf,
  PAYLOAD_LIMIT,
  seal,
  unseal,
  type Identity,
} from '../../services/core/jobs/envelope.ts';
import { refusal } from './samples.ts';

const identity = (): Identity => {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  return { id: keyIdOf(publicKey), privateKey, publicKey };
};
const coordinator = identity();
const stranger = identity();
const senders = new Map([[coordinator.id, coordinator.publicKey]]);
const address = { place: 'builder', name: 'abc-0' };
const sealed = seal('{"kind":"measure"}', address, coordinator);

describe('a message', () => {
  it('is read where it was sent to, and says who sent it', () => {
    const arrived: unknown = JSON.parse(JSON.stringify(sealed));
    expect(unseal(arrived, address, senders)).toEqual({
      payload: '{"kind":"measure"}',
      sender: coordinator.id,
    });
  });

  it('is not written where it would be too large for anybody to read', () => {
    const largest = seal('x'.repeat(PAYLOAD_LIMIT), address, coordinator);
    expect(unseal(largest, address, senders).payload).toHaveLength(PAYLOAD_LIMIT);
    expect(() => seal('x'.repeat(PAYLOAD_LIMIT + 1), address, coordinator)).toThrow(
      refusal('too-large', /the message abc-0 has \d+ characters, over the limit/),
    );
  });

  it.each([
    ['under another name', { ...address, name: 'abc-1' }],
    ['on another queue', { ...address, place: 'signer' }],
    ['where a line break moves the bounds', { place: 'builder\nabc-0', name: 'x' }],
  ])('is refused %s', (_, at) => {
    expect(() => unseal(sealed, at, senders)).toThrow(refusal('unverified', /./));
  });

  it.each([
    ['with another payload', { ...sealed, payload: '{"kind":"measure" }' }],
    ['from a key that is not configured', seal(sealed.payload, address, stranger)],
    ['in another’s name', { ...seal(sealed.payload, address, stranger), key: coordinator.id }],
    ['without a signature', { payload: sealed.payload, key: sealed.key }],
    ['with more than it has', { ...sealed, more: 1 }],
    [
      'with a longer payload than there may be',
      { ...sealed, payload: 'x'.repeat(PAYLOAD_LIMIT + 1) },
    ],
    ['as anything else', 'abc'],
    ['as nothing', null],
  ])('is refused %s', (_, message) => {
    expect(() => unseal(message, address, senders)).toThrow(refusal('unverified', /./));
  });
});
