import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { BELIEVED, startMirrorFollower, type MirrorFollower } from '../machine/mirror-follower.ts';
import {
  changeIndex,
  changeList,
  publish,
  rpmRepository,
  setTime,
} from '../machine/rpm-repository.ts';
import { makeKey, signFile } from '../machine/signing-keys.ts';

/** Metadata from who has a mirror of an RPM repository, or the way to it, and not its keys. */

let mirror: MirrorFollower;
beforeAll(async () => {
  mirror = await startMirrorFollower();
});
afterAll(() => mirror.stop());

describe('metadata', () => {
  it('that is not signed is refused, with what to do where it never is', async () => {
    const top = await mirror.signed();
    await rm(join(top, 'repodata/repomd.xml.asc'));
    expect(await mirror.lookAt(`file://${top}`)).toMatch(
      /repomd\.xml\.asc is not there; if the distribution signs its packages alone.*say repo_gpgcheck=0/,
    );
  });

  it('that was changed after it was signed is refused', async () => {
    const top = await mirror.signed();
    await changeIndex(top, (xml) => xml.replace('<size>', '<size>1'));
    expect(await mirror.lookAt(`file://${top}`)).toMatch(
      /repomd\.xml is not signed by.*\(BADSIG\)/,
    );
  });

  it.each([
    ['somebody else', async (file: string) => signFile(mirror.stranger, file), /ERRSIG/],
    ['nobody', async (file: string) => writeFile(`${file}.asc`, 'signed\n'), /NODATA|no signature/],
  ])('that %s signed is refused', async (_, sign, words) => {
    const top = await mirror.unsigned();
    await sign(join(top, 'repodata/repomd.xml'));
    const said = await mirror.lookAt(`file://${top}`);
    expect(said).toMatch(/repomd\.xml is not signed by a key of the archive’s gpgkey/);
    expect(said).toMatch(words);
  });

  it('that a key signed which has expired is refused', async () => {
    const expired = await makeKey('Distribution of old', '2020-01-01');
    const top = await rpmRepository([mirror.small], { packages: mirror.key, metadata: null });
    await signFile(expired, join(top, 'repodata/repomd.xml'), '2019-12-01');
    expect(await mirror.lookAt(`file://${top}`, '', expired)).toMatch(
      /is not signed by.*\(EXPKEYSIG\)/,
    );
  });

  it('that is older than what was seen is refused, until an admin adds the archive again', async () => {
    const top = await mirror.signed();
    const [now, signers] = [Math.floor(Date.now() / 1000), { metadata: mirror.key }];
    expect(await mirror.lookAt(`file://${top}`)).toMatch(BELIEVED);
    await setTime(top, now - 86_400);
    await signFile(mirror.key, join(top, 'repodata/repomd.xml'));
    expect(await mirror.look()).toMatch(
      /older than that of \S+ which was seen before: .*somebody keeps newer packages back; .*add it again/,
    );
    expect(await mirror.look()).toMatch(/older than/);
    expect(await mirror.lookAt(`file://${top}`)).toMatch(BELIEVED);
    await publish(top, signers);
    expect(await mirror.look()).toMatch(BELIEVED);
  });

  it('of a time to come is refused, as what is true would be older for good', async () => {
    const top = await mirror.unsigned();
    await setTime(top, Math.floor(Date.now() / 1000) + 10 * 86_400);
    expect(await mirror.lookAtUnsigned(top)).toMatch(
      /the metadata says that it is of \S+, a time to come/,
    );
    await publish(top, { metadata: null });
    expect(await mirror.look()).toMatch(BELIEVED);
  });

  const bomb = `<!DOCTYPE m [<!ENTITY a "${'b'.repeat(1000)}">${Array.from(
    { length: 9 },
    (_, level) => `<!ENTITY a${level} "${`&a${level === 0 ? '' : level - 1};`.repeat(10)}">`,
  ).join('')}]>`;
  it.each([
    ['entities that stand for each other', bomb, '&a8;'],
    [
      'an entity that stands for a file',
      '<!DOCTYPE m [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
      '&a;',
    ],
  ])('with %s is refused', async (_, doctype, use) => {
    const change = (xml: string): string => xml.replace('?>', `?>${doctype}`);
    const index = await mirror.unsigned();
    await changeIndex(index, change);
    expect(await mirror.lookAtUnsigned(index)).toMatch(/repomd\.xml has a document type/);
    const list = await mirror.unsigned();
    await changeList(list, (xml) => change(xml).replace('>headers<', `>${use}<`));
    expect(await mirror.lookAtUnsigned(list)).toMatch(/primary\.xml\) has a document type/);
  });

  it.each([
    [
      'nothing but zeros',
      (xml: string) => `${xml}${'\0'.repeat(300 * 1024 ** 2)}`,
      /a part of over 256 KiB/,
    ],
    [
      'a million elements in each other',
      (xml: string) => xml.replace('<package ', `${'<a>'.repeat(1_000_000)}<package `),
      /elements within each other/,
    ],
  ])('that becomes %s is refused', async (_, change, words) => {
    const top = await mirror.unsigned();
    await changeList(top, change);
    expect(await mirror.lookAtUnsigned(top)).toMatch(words);
  });

  it('that becomes more than it says when decompressed is refused', async () => {
    const top = await mirror.unsigned();
    await changeList(top, (xml) =>
      xml.replace('</metadata>', `${'<a></a>'.repeat(1_000_000)}</metadata>`),
    );
    await changeIndex(top, (xml) => xml.replace(/(type="primary"[^]*?<open-size>)\d+/, '$15000'));
    expect(await mirror.lookAtUnsigned(top)).toMatch(/has more than 5000 bytes when decompressed/);
  });

  it('that is no XML, or no gzip, is refused', async () => {
    const top = await mirror.unsigned();
    await changeList(
      top,
      (xml) => xml,
      () => gzipSync(Buffer.from([0xff, 0xfe, 0x3c])),
    );
    expect(await mirror.lookAtUnsigned(top)).toMatch(/is no gzip, xz or zstd of UTF-8 text/);
    const broken = await mirror.unsigned();
    await changeList(
      broken,
      (xml) => xml,
      (xml) => gzipSync(xml).subarray(0, 200),
    );
    expect(await mirror.lookAtUnsigned(broken)).toMatch(/is no gzip, xz or zstd of UTF-8 text/);
  });

  it.each([
    ['up', 'href="../../../../etc/passwd"'],
    ['to another server', 'href="http://127.0.0.1:1/x.rpm"'],
    ['to another server by a base', 'xml:base="http://127.0.0.1:1/" href="x.rpm"'],
    ['up, encoded', 'href="%2e%2e/x.rpm"'],
  ])('whose locations lead %s is refused', async (_, location) => {
    const list = await mirror.unsigned();
    await changeList(list, (xml) => xml.replace(/href="Packages[^"]*"/, location));
    expect(await mirror.lookAtUnsigned(list)).toMatch(
      /primary\.xml\) has the location .* not within the repository/,
    );
    const index = await mirror.unsigned();
    await changeIndex(index, (xml) => xml.replace(/href="[^"]*-primary[^"]*"/, location));
    expect(await mirror.lookAtUnsigned(index)).toMatch(
      /repomd\.xml has the location .* not within the repository/,
    );
  });

  it('without a checksum that holds is refused', async () => {
    const list = await mirror.unsigned();
    await changeList(list, (xml) =>
      xml.replace(/<checksum type="sha256"/, '<checksum type="sha1"'),
    );
    expect(await mirror.lookAtUnsigned(list)).toMatch(
      /primary\.xml\) gives no SHA-256, SHA-384 or SHA-512 for/,
    );
    const index = await mirror.unsigned();
    await changeIndex(index, (xml) => xml.replace(/(type="primary">\s*)<checksum.*/, '$1'));
    expect(await mirror.lookAtUnsigned(index)).toMatch(/repomd\.xml gives no SHA-256/);
  });

  it('in which a list of another length or other bytes was put is refused', async () => {
    const longer = await mirror.unsigned();
    await changeIndex(longer, (xml) => xml.replace(/(type="primary"[^]*?<size>)\d+/, '$1100'));
    expect(await mirror.lookAtUnsigned(longer)).toMatch(
      /has more than the 100 bytes that the metadata says/,
    );
    const other = await mirror.unsigned();
    await changeIndex(other, (xml) =>
      xml.replace(
        /(type="primary">\s*<checksum type="sha256">)./,
        (_, before: string) => `${before}${xml.includes(`${before}0`) ? 1 : 0}`,
      ),
    );
    expect(await mirror.lookAtUnsigned(other)).toMatch(
      /is not the file that the metadata says \(sha256\)/,
    );
  });
});
