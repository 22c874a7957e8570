import { describe, expect, it } from '@jest/globals';
import { digestOf, hexOf, isDigest, shortDigest, toDigest } from '../../services/core/digest.ts';

/** SHA-256 of "abc", from FIPS 180-4's examples. */
const ABC = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad';

describe('a digest', () => {
  it('is SHA-256, the same for text and for its UTF-8 bytes', () => {
    expect(digestOf('abc')).toBe(`sha256:${ABC}`);
    expect(digestOf(Buffer.from('abc'))).toBe(`sha256:${ABC}`);
    expect(digestOf('é')).toBe(digestOf(Buffer.from([0xc3, 0xa9])));
  });

  it('goes to hex and back without loss', () => {
    expect(hexOf(toDigest(ABC))).toBe(ABC);
    expect(toDigest(hexOf(digestOf('abc')))).toBe(digestOf('abc'));
  });

  it('is shortened to its first twelve digits for people', () => {
    expect(shortDigest(digestOf('abc'))).toBe('ba7816bf8f01');
  });

  it('is known by its form', () => {
    expect(isDigest(`sha256:${ABC}`)).toBe(true);
  });

  it.each([
    ['nothing', ''],
    ['bare hex', ABC],
    ['upper-case hex', `sha256:${ABC.toUpperCase()}`],
    ['a digit too few', `sha256:${ABC.slice(1)}`],
    ['a digit too many', `sha256:${ABC}0`],
    ['another algorithm', `sha512:${ABC}`],
    ['a newline behind', `sha256:${ABC}\n`],
    ['a path in it', `sha256:../${ABC.slice(3)}`],
  ])('is not taken from %s', (_, text) => {
    expect(isDigest(text)).toBe(false);
  });
});
