import { describe, expect, it } from '@jest/globals';
import { canonicalJson, type Canonical } from '../../services/core/format/canonical-json.ts';

describe('canonical JSON', () => {
  it('orders keys by UTF-16 code units, as the example in RFC 8785 3.2.3 does', () => {
    const keys = ['\u20ac', '\r', '\ufb33', '1', '\u{1f600}', '\u0080', '\u00f6'];
    const sorted = ['\r', '1', '\u0080', '\u00f6', '\u20ac', '\u{1f600}', '\ufb33'];
    const text = canonicalJson(Object.fromEntries(keys.map((key) => [key, 0])));
    expect(text).toBe(`{${sorted.map((key) => `${JSON.stringify(key)}:0`).join(',')}}`);
  });

  it('escapes a string as RFC 8785 3.2.2.2 does', () => {
    expect(canonicalJson('\u20ac$\u000f\nA\'B"\\\\"/')).toBe(String.raw`"€$\u000f\nA'B\"\\\\\"/"`);
  });

  it('writes nested values without spaces and keeps the order of lists', () => {
    expect(canonicalJson({ b: [3, 1, { z: null, a: true }], a: '' })).toBe(
      '{"a":"","b":[3,1,{"a":true,"z":null}]}',
    );
  });

  it('writes the same text whatever order the keys were set in', () => {
    expect(canonicalJson({ x: { b: 1, a: 2 }, w: 0 })).toBe(
      canonicalJson({ w: 0, x: { a: 2, b: 1 } }),
    );
  });

  it.each<[Canonical, string]>([
    [null, 'null'],
    [false, 'false'],
    [0, '0'],
    [-0, '0'],
    [Number.MAX_SAFE_INTEGER, '9007199254740991'],
    [-12, '-12'],
    [[], '[]'],
    [{}, '{}'],
  ])('writes %j as %s', (value, text) => {
    expect(canonicalJson(value)).toBe(text);
  });

  it.each([0.5, 2 ** 53, 1e21, Number.NaN, Number.POSITIVE_INFINITY])(
    'refuses the number %d, which is no safe integer, however deep it lies',
    (number) => {
      expect(() => canonicalJson(number)).toThrow(TypeError);
      expect(() => canonicalJson({ a: [{ b: number }] })).toThrow(TypeError);
    },
  );
});
