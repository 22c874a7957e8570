import { readFile, truncate, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { digestOf, hexOf } from '../../services/core/digest.ts';
import { BELIEVED, startMirrorFollower, type MirrorFollower } from '../machine/mirror-follower.ts';
import { changeList, publish, rpmRepository, smallPackage } from '../machine/rpm-repository.ts';
import { mustRun } from '../machine/run.ts';
import { signPackages } from '../machine/signing-keys.ts';

/** Packages from who has a mirror of an RPM repository, or the way to it, and not its keys. */

let mirror: MirrorFollower;
beforeAll(async () => {
  mirror = await startMirrorFollower();
});
afterAll(() => mirror.stop());

/** The one package in a repository. */
const packageIn = async (top: string): Promise<string> =>
  (await mustRun('find', [top, '-name', '*.rpm'])).trim();

/** Changes one bit of a file; its SHA-256 before and after. */
const flip = async (
  file: string,
  where: (bytes: Buffer) => number,
): Promise<readonly [before: string, after: string]> => {
  const bytes = await readFile(file);
  const before = hexOf(digestOf(bytes));
  bytes.writeUInt8(bytes.readUInt8(where(bytes)) ^ 1, where(bytes));
  await writeFile(file, bytes);
  return [before, hexOf(digestOf(bytes))];
};

describe('packages', () => {
  it('are believed as the distribution signed them (so that the refusals below have one reason each)', async () => {
    expect(await mirror.lookAtUnsigned(await mirror.unsigned())).toMatch(BELIEVED);
    expect(await mirror.lookAt(`file://${await mirror.signed()}`)).toMatch(BELIEVED);
  });

  it('that nobody signed are refused', async () => {
    const top = await rpmRepository([mirror.small], { packages: null, metadata: mirror.key });
    expect(await mirror.lookAt(`file://${top}`)).toMatch(
      /kernel-devel-5\.14\.0-1\.el9\.x86_64\.rpm is not signed by a key of the archive’s gpgkey \(rpmkeys: digests SIGNATURES NOT OK\)/,
    );
  });

  it('that somebody else signed are refused', async () => {
    const top = await rpmRepository([mirror.small], {
      packages: mirror.stranger,
      metadata: mirror.key,
    });
    expect(await mirror.lookAt(`file://${top}`)).toMatch(
      /is not signed by a key of the archive’s gpgkey/,
    );
  });

  it.each([
    ['files', (bytes: Buffer) => bytes.length - 5],
    ['description', (bytes: Buffer) => bytes.lastIndexOf('1.el9')],
  ])('whose %s were changed after they were signed are refused', async (_, where) => {
    const top = await mirror.unsigned();
    const [before, after] = await flip(await packageIn(top), where);
    await changeList(top, (xml) => xml.replace(before, after));
    expect(await mirror.lookAtUnsigned(top)).toMatch(/\(rpmkeys: DIGESTS SIGNATURES NOT OK\)/);
  });

  it('that are passed off as newer ones are refused', async () => {
    const top = await mirror.unsigned();
    await changeList(top, (xml) => xml.replace('rel="1.el9"', 'rel="2.el9"'));
    expect(await mirror.lookAtUnsigned(top)).toMatch(
      /the metadata calls kernel-devel 0 5\.14\.0 2\.el9 x86_64 is signed as kernel-devel 0 5\.14\.0 1\.el9 x86_64/,
    );
  });

  it('that are passed off as headers are refused', async () => {
    const other = await smallPackage({ name: 'kernel-other' });
    const top = await rpmRepository([other], { packages: mirror.key, metadata: null });
    await changeList(top, (xml) => xml.replace('>kernel-other<', '>kernel-devel<'));
    expect(await mirror.lookAtUnsigned(top)).toMatch(/is signed as kernel-other 0 /);
  });

  it.each([
    ['cut short', -1, /has \d+ bytes of the \d+ that the metadata says/],
    ['longer', 1, /has more than the \d+ bytes that the metadata says/],
  ])('that are %s are refused', async (_, more, words) => {
    const top = await mirror.unsigned();
    const file = await packageIn(top);
    await truncate(file, (await readFile(file)).length + more);
    expect(await mirror.lookAtUnsigned(top)).toMatch(words);
  });

  it('with other bytes than the metadata says are refused, whoever signed them', async () => {
    const top = await mirror.signed();
    await flip(await packageIn(top), ({ length }) => length - 5);
    expect(await mirror.lookAt(`file://${top}`)).toMatch(
      /is not the file that the metadata says \(sha256\)/,
    );
  });

  it('that need another in a version that is not there are refused by its name', async () => {
    const needy = await smallPackage({ requires: 'kernel-source-devel = 5.14.0-7' });
    const other = await smallPackage({ name: 'kernel-source-devel' });
    const top = await rpmRepository([needy, other], { packages: mirror.key, metadata: null });
    expect(await mirror.lookAtUnsigned(top)).toMatch(
      /the archive has no package kernel-source-devel/,
    );
  });

  it('that the distribution signed, and then a stranger in its place, are refused', async () => {
    const top = await mirror.unsigned();
    const file = await packageIn(top);
    await signPackages(mirror.stranger, [file]);
    await publish(top, { metadata: null });
    expect(await mirror.lookAtUnsigned(top)).toMatch(
      /is not signed by a key of the archive’s gpgkey/,
    );
  });
});
