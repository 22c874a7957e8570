import 'reflect-metadata';
import { sign, webcrypto, X509Certificate, KeyObject } from 'node:crypto';
import { beforeAll, describe, expect, it } from '@jest/globals';
import * as x509 from '@peculiar/x509';
import {
  isSignatureHash,
  signModule,
  splitModule,
  verifyModule,
  type RawSigner,
} from '../../services/core/module/module-signature.ts';
import { KilnError } from '../../services/core/errors.ts';
import { refusal } from './samples.ts';

const MAGIC = '~Module signature appended~\n';
const MODULE = Buffer.from('\x7fELF, a module as far as a signature is concerned');

interface Key extends RawSigner {
  readonly certificate: X509Certificate;
}

const makeKey = async (name: string): Promise<Key> => {
  const algorithm = {
    name: 'RSASSA-PKCS1-v1_5',
    hash: 'SHA-256',
    publicExponent: new Uint8Array([1, 0, 1]),
    modulusLength: 2048,
  };
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned(
    {
      serialNumber: '1234',
      name,
      notBefore: new Date('2026-01-01'),
      notAfter: new Date('2036-01-01'),
      signingAlgorithm: algorithm,
      keys,
    },
    webcrypto,
  );
  const privateKey = KeyObject.from(keys.privateKey);
  return {
    certificate: new X509Certificate(certificate.toString('pem')),
    sign: (hash, message) => Promise.resolve(sign(hash, message, privateKey)),
  };
};

let key: Key;
let stranger: Key;
let namesake: Key;
let signed: Buffer;
beforeAll(async () => {
  [key, stranger, namesake] = await Promise.all([
    makeKey('CN=Kiln'),
    makeKey('CN=Stranger'),
    makeKey('CN=Kiln'),
  ]);
  signed = await signModule(MODULE, 'sha256', key.certificate, key);
});

const flipped = (at: number): Buffer => {
  const bytes = Buffer.from(signed);
  bytes.writeUInt8((bytes.at(at) ?? 0) ^ 1, at < 0 ? bytes.length + at : at);
  return bytes;
};

describe('a signed module', () => {
  it.each(['sha224', 'sha256', 'sha384', 'sha512'] as const)(
    'with %s verifies, and gives back the bytes that were signed',
    async (hash) => {
      const bytes = await signModule(MODULE, hash, key.certificate, key);
      expect(verifyModule(bytes, key.certificate)).toEqual(MODULE);
    },
  );

  it('is the module, PKCS#7, struct module_signature and the magic string', () => {
    const { unsigned, pkcs7 } = splitModule(signed) ?? {};
    expect(unsigned).toEqual(MODULE);
    expect(pkcs7?.subarray(0, 2).toString('hex')).toBe('3082');
    const trailer = Buffer.alloc(12);
    trailer.writeUInt8(2, 2);
    trailer.writeUInt32BE(pkcs7?.length ?? 0, 8);
    const end = Buffer.concat([trailer, Buffer.from(MAGIC)]);
    expect(signed).toEqual(Buffer.concat([MODULE, pkcs7 ?? Buffer.alloc(0), end]));
  });

  it('is the same each time, so that a build is the same each time', async () => {
    expect(await signModule(MODULE, 'sha256', key.certificate, key)).toEqual(signed);
  });

  it.each([
    ['of the module’s first', 0, /not those that were signed/],
    ['of the module’s last', MODULE.length - 1, /not those that were signed/],
    ['of the signature', -MAGIC.length - 13, /not those that were signed/],
    ['of the kind of key', -MAGIC.length - 10, /malformed/],
    ['of the size', -MAGIC.length - 1, /malformed/],
    ['of the magic string', -1, /not signed/],
  ])('with a flipped bit %s is refused', (_, at, words) => {
    expect(() => verifyModule(flipped(at), key.certificate)).toThrow(refusal('unverified', words));
  });

  // so a module verifies that the kernel refuses to load.
  it('is refused whichever one bit of its bytes is flipped', () => {
    const places = Array.from(signed.keys());
    const passed = places.filter((at) => {
      try {
        verifyModule(flipped(at), key.certificate);
        return true;
      } catch (error) {
        expect(error).toBeInstanceOf(KilnError);
        return false;
      }
    });
    expect(passed).toEqual([]);
  });

  it('is refused by another certificate, and by one of the same name with another key', () => {
    expect(() => verifyModule(signed, stranger.certificate)).toThrow(
      refusal('unverified', /another key than the pinned/),
    );
    expect(() => verifyModule(signed, namesake.certificate)).toThrow(
      refusal('unverified', /not those that were signed/),
    );
  });

  it('is refused with a second signature behind the first', async () => {
    const twice = await signModule(signed, 'sha256', stranger.certificate, stranger);
    expect(() => verifyModule(twice, key.certificate)).toThrow(
      refusal('unverified', /another key/),
    );
  });
});

describe('an unsigned module', () => {
  it.each([Buffer.alloc(0), MODULE, Buffer.from(MAGIC.trimEnd())])('is known as such', (bytes) => {
    expect(splitModule(bytes)).toBeNull();
    expect(() => verifyModule(bytes, key.certificate)).toThrow(refusal('unverified', /not signed/));
  });
});

describe('a malformed signature', () => {
  const withTrailer = (size: number, body = MODULE): Buffer => {
    const trailer = Buffer.alloc(12);
    trailer.writeUInt8(2, 2);
    trailer.writeUInt32BE(size, 8);
    return Buffer.concat([body, trailer, Buffer.from(MAGIC)]);
  };

  it.each<[string, Buffer]>([
    ['the magic string alone', Buffer.from(MAGIC)],
    ['half a trailer', Buffer.concat([Buffer.alloc(6), Buffer.from(MAGIC)])],
    ['a size beyond the file', withTrailer(MODULE.length + 1)],
    ['the largest size', withTrailer(0xffffffff)],
    ['a size of nothing', withTrailer(0)],
    ['no DER', withTrailer(10)],
    ['empty DER', withTrailer(2, Buffer.from([0x30, 0]))],
    ['DER of another kind', withTrailer(4, Buffer.from([0x30, 2, 5, 0]))],
  ])('is refused: %s', (_, bytes) => {
    expect(() => verifyModule(bytes, key.certificate)).toThrow(
      refusal('unverified', /signature is malformed/),
    );
  });
});

describe('the hashes', () => {
  it('are those that the kernel and Kiln both have', () => {
    expect(['sha224', 'sha256', 'sha384', 'sha512'].every(isSignatureHash)).toBe(true);
    expect(['sha1', 'md5', 'sha3-256', '', 'toString'].some(isSignatureHash)).toBe(false);
  });
});
