import { expect, it } from '@jest/globals';
import { dearmorKeys } from '../../services/core/format/armor.ts';

const block = (lines: readonly string[], kind = 'PUBLIC KEY BLOCK', newline = '\n'): string =>
  [`-----BEGIN PGP ${kind}-----`, ...lines, `-----END PGP ${kind}-----`, ''].join(newline);

it('the keys in a text are its blocks, one after another, without what stands around them', () => {
  const first = block(['Version: GnuPG v2', 'Comment: a', '', 'aGVs', 'bG8g', '=abcd']);
  const second = block(['', 'd29ybGQ=', '=abcd'], 'PUBLIC KEY BLOCK', '\r\n');
  const third = block(['', 'IQ==']);
  const text = `pub rsa4096\n${first}between\n${second}${block(['', 'bm8='], 'SIGNATURE')}${third}`;
  expect(dearmorKeys(text).toString()).toBe('hello world!');
});

it('a text without a block has none', () => {
  expect(dearmorKeys('hello\n-----BEGIN PGP PUBLIC KEY BLOCK-----\n')).toHaveLength(0);
});
