import { describe, expect, it } from '@jest/globals';
import {
  createPackageReader,
  fullName,
  readRepoIndex,
  type AnnouncedPackage,
} from '../../services/core/kernel/rpm-metadata.ts';

const HEX = 'ab'.repeat(32);

/** As createrepo_c writes it. */
const INDEX = `<?xml version="1.0" encoding="UTF-8"?>
<repomd xmlns="http://linux.duke.edu/metadata/repo" xmlns:rpm="http://linux.duke.edu/metadata/rpm">
  <revision>1700000000</revision>
  <data type="filelists">
    <checksum type="md5">00</checksum>
    <location href="../x"/>
    <timestamp>1700000007</timestamp>
    <size>1</size>
  </data>
  <data type="primary">
    <checksum type="sha256">${HEX}</checksum>
    <open-checksum type="sha256">00</open-checksum>
    <location href="repodata/${HEX}-primary.xml.gz"/>
    <timestamp>1700000005</timestamp>
    <size>581</size>
    <open-size>1248</open-size>
  </data>
</repomd>
`;

const PACKAGE = `<package type="rpm">
  <name>kernel-default-devel</name>
  <arch>x86_64</arch>
  <version epoch="0" ver="6.4.0" rel="150600.23.42.1"/>
  <checksum type="sha256" pkgid="YES">${HEX}</checksum>
  <summary>a &lt; b</summary>
  <size package="6211" installed="3" archive="376"/>
  <location href="x86_64/kernel-default-devel-6.4.0-150600.23.42.1.x86_64.rpm"/>
  <format>
    <rpm:provides><rpm:entry name="kernel-default-devel" flags="EQ" epoch="0" ver="6.4.0" rel="1"/></rpm:provides>
    <rpm:requires>
      <rpm:entry name="kernel-devel" flags="EQ" epoch="0" ver="6.4.0" rel="150600.23.42.1"/>
      <rpm:entry name="kernel-macros"/>
    </rpm:requires>
  </format>
</package>
`;

const packagesOf = (...packages: readonly string[]): readonly AnnouncedPackage[] => {
  const reader = createPackageReader((name) => name.startsWith('kernel-'));
  reader.write(`<metadata xmlns="x" xmlns:rpm="y" packages="9">${packages.join('')}</metadata>\n`);
  return reader.end();
};

describe('repomd.xml', () => {
  it('says where the list of packages is, and when all of it was made', () => {
    expect(readRepoIndex(INDEX)).toEqual({
      madeAt: 1_700_000_007,
      openSize: 1248,
      primary: {
        location: `repodata/${HEX}-primary.xml.gz`,
        checksum: { algorithm: 'sha256', hex: HEX },
        size: 581,
      },
    });
  });

  it.each([
    ['no list', 'type="primary"', 'type="other"', /names 0 lists of packages/],
    ['two lists', 'type="filelists"', 'type="primary"', /names 2 lists of packages/],
    ['no time', /<(timestamp|revision)>.*/g, '', /does not say when it was made/],
    ['an endless time', '1700000005', '1e999', /does not say when it was made/],
    ['no checksum', /<checksum type="sha256">.*/, '', /gives no SHA-256, SHA-384 or SHA-512/],
    ['an old checksum', 'checksum type="sha256"', 'checksum type="sha"', /gives no SHA-256/],
    ['half a checksum', `>${HEX}<`, '>abab<', /gives no SHA-256/],
    ['no size', '<size>581', '<size>', /gives no size/],
    ['a size of nonsense', '<size>581', '<size>-1', /gives no size/],
    ['a way up', 'href="repodata/', 'href="repodata/../../', /not within the repository/],
    ['another address', 'href="repodata/', 'href="https://x/', /not within the repository/],
    ['an address without scheme', 'href="repodata/', 'href="//x/', /not within the repository/],
    ['a path from the top', 'href="repodata/', 'href="/etc/', /not within the repository/],
    ['an encoded way up', 'href="repodata/', 'href="%2e%2e/', /not within the repository/],
    ['a way up for Windows', 'href="repodata/', 'href="..\\', /not within the repository/],
    ['a base of its own', 'href="repodata/', 'xml:base="http://x" href="r/', /not within/],
    ['a document type', '<repomd', '<!DOCTYPE a><repomd', /document type/],
  ])('with %s is refused', (_, from, to, words) => {
    const text = INDEX.replace(from, to);
    expect(text).not.toBe(INDEX);
    expect(() => readRepoIndex(text)).toThrow(words);
  });
});

describe('a list of packages', () => {
  it('gives what is wanted, with what it needs', () => {
    const [found, ...others] = packagesOf(
      PACKAGE,
      PACKAGE.replace('>kernel-default-devel<', '>glibc<'),
      PACKAGE.replace('>x86_64<', '>aarch64<'),
    );
    expect(others).toEqual([]);
    expect(found === undefined ? '' : fullName(found)).toBe(
      'kernel-default-devel-6.4.0-150600.23.42.1.x86_64',
    );
    expect(found).toMatchObject({
      epoch: 0,
      size: 6211,
      requires: [
        {
          name: 'kernel-devel',
          exactly: { epoch: 0, version: '6.4.0', release: '150600.23.42.1' },
        },
        { name: 'kernel-macros', exactly: null },
      ],
    });
  });

  it.each([
    ['a name that is a path', '>kernel-default-devel<', '>kernel-/../../x<'],
    ['a version that is a path', 'ver="6.4.0"', 'ver="../6"'],
    ['a release that is a path', 'rel="150600.23.42.1"/>\n  <checksum', 'rel="/"/>\n  <checksum'],
    ['no version', /<version .*/, ''],
  ])('passes over a package with %s', (_, from, to) => {
    const text = PACKAGE.replace(from, to);
    expect(text).not.toBe(PACKAGE);
    expect(packagesOf(text)).toEqual([]);
  });

  it.each([
    ['a way up', 'href="x86_64/', 'href="../', /primary.xml\) has the location "\.\.\/kernel/],
    ['a base of its own', '<location ', '<location xml:base="http://x" ', /not within/],
    ['no checksum', /<checksum .*/, '', /gives no SHA-256/],
    ['no size', 'package="6211" ', '', /gives no size/],
    ['a document type', '<name>', '<!DOCTYPE a>', /document type/],
  ])('with %s for what is wanted is refused', (_, from, to, words) => {
    const text = PACKAGE.replace(from, to);
    expect(text).not.toBe(PACKAGE);
    expect(() => packagesOf(text)).toThrow(words);
  });

  it('with more of it than any repository has is refused', () => {
    const small = PACKAGE.replace(/<format>[^]*<.format>/, '');
    expect(() => packagesOf(small.repeat(10_001))).toThrow(/over 10000 packages/);
  });
});
