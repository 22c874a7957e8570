import { chmod, chown, mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import { digestOf } from '../../services/core/digest.ts';
import { checkDeb } from '../../services/storage/check-deb.ts';
import type { PackagePlan } from '../../services/core/packages/plan.ts';
import { packPlan, sum } from '../machine/pack-plan.ts';
import { mustRun } from '../machine/run.ts';

/** A Debian package is what its plan says and nothing else: real packages, made by dpkg-deb, each wrong in one way. */

const plan: PackagePlan = {
  format: 'deb',
  name: 'x',
  version: '1',
  arch: 'all',
  file: 'x_1_all.deb',
  control: {
    control:
      'Package: x\nVersion: 1\nArchitecture: all\nMaintainer: K <k@x.invalid>\nDescription: x\n',
  },
  files: [
    { place: '/lib/modules/6.1/x.ko', content: { blob: digestOf('module') } },
    { place: '/usr/share/doc/x/copyright', content: { text: 'free' } },
    { place: '/usr/share/doc/x/changelog.gz', content: { gzip: 'changed' } },
    { place: '/usr/lib/x/run', content: { text: '#!/bin/sh\n' }, executable: true },
  ],
};
const MOST = 1024 ** 2;

/** Packs what was planned, changed. */
const packed = (
  change: (tree: string) => Promise<unknown>,
  ...options: readonly string[]
): Promise<string> => packPlan(plan, async () => 'module', change, options);
const ROOT = '--root-owner-group';
const check = (file: string, most = MOST): Promise<void> =>
  readFile(file).then((bytes) => checkDeb(bytes, plan, most));
/** Puts files beside a package together as dpkg-deb does, in its place. */
const writeAr = async (file: string, names: readonly string[]): Promise<void> => {
  const pieces = [Buffer.from('!<arch>\n')];
  for (const name of names) {
    const bytes = await readFile(join(dirname(file), name));
    const size = String(bytes.length).padEnd(10);
    pieces.push(Buffer.from(`${name.padEnd(16)}${'0'.padEnd(12)}0     0     100644  ${size}\`\n`));
    pieces.push(bytes, Buffer.from(bytes.length % 2 === 1 ? '\n' : ''));
  }
  await writeFile(file, Buffer.concat(pieces));
};
const unchanged = async (): Promise<void> => {};

describe('a package', () => {
  it('passes where it is what was planned', async () => {
    await expect(check(await packed(unchanged, ROOT))).resolves.toBeUndefined();
  });

  it.each<[string, (tree: string) => Promise<unknown>, RegExp]>([
    [
      'a file more',
      (tree) => writeFile(join(tree, 'usr/lib/x/more'), ''),
      /has \/usr\/lib\/x\/more, which is not planned/,
    ],
    [
      'a directory more',
      (tree) => mkdir(join(tree, 'usr/lib/y')),
      /has \/usr\/lib\/y, which is not planned/,
    ],
    [
      'a file less',
      (tree) => rm(join(tree, 'usr/share/doc/x/copyright')),
      /lacks \/usr\/share\/doc\/x\/copyright/,
    ],
    [
      'another module',
      (tree) => writeFile(join(tree, 'lib/modules/6.1/x.ko'), 'other'),
      /has other bytes in \/lib\/modules\/6.1\/x.ko/,
    ],
    [
      'another text in gzip',
      (tree) =>
        mustRun('bash', ['-c', `echo other | gzip -9n >${tree}/usr/share/doc/x/changelog.gz`]),
      /has other bytes in \/usr\/share\/doc\/x\/changelog.gz/,
    ],
    [
      'a link for a file',
      async (tree) => {
        await rm(join(tree, 'lib/modules/6.1/x.ko'));
        await symlink('/etc/passwd', join(tree, 'lib/modules/6.1/x.ko'));
      },
      /has something else than files and directories/,
    ],
    [
      'a program that runs as its owner',
      (tree) => chmod(join(tree, 'usr/lib/x/run'), 0o4755),
      /has \/usr\/lib\/x\/run with other permissions/,
    ],
    [
      'a file that everybody may write',
      (tree) => chmod(join(tree, 'lib/modules/6.1/x.ko'), 0o666),
      /has \/lib\/modules\/6.1\/x.ko with other permissions/,
    ],
    [
      'a script',
      (tree) => writeFile(join(tree, 'DEBIAN/postinst'), '#!/bin/sh\n', { mode: 0o755 }),
      /has \/postinst in its control part, which is not planned/,
    ],
    [
      'another field',
      (tree) =>
        writeFile(join(tree, 'DEBIAN/control'), `${plan.control['control']}Essential: yes\n`),
      /has another control in its control part/,
    ],
    ['no sums', (tree) => rm(join(tree, 'DEBIAN/md5sums')), /lacks md5sums in its control part/],
    [
      'other sums',
      (tree) => writeFile(join(tree, 'DEBIAN/md5sums'), 'a  b\n'),
      /has another md5sums in its control part/,
    ],
  ])('is refused with %s', async (_, change, words) => {
    const changeAll = async (tree: string): Promise<void> => {
      await change(tree);
      const isAboutSums = /sums/.test(String(words));
      if (!isAboutSums) await sum(tree);
    };
    await expect(check(await packed(changeAll, ROOT))).rejects.toThrow(words);
  });

  it('is refused where its files are not root’s', async () => {
    const file = await packed((tree) => chown(join(tree, 'lib/modules/6.1/x.ko'), 1000, 1000));
    await expect(check(file)).rejects.toThrow(/has files that are not root’s/);
  });

  it('is refused where it has a part more, twice, in another form, or not at all', async () => {
    const inParts = async (script: string, ...parts: readonly string[]): Promise<string> => {
      const file = await packed(unchanged, ROOT);
      await mustRun('bash', ['-ec', `cd ${dirname(file)} && ar x ${file} && ${script}`]);
      await writeAr(file, parts);
      return file;
    };
    const [binary, control, data] = ['debian-binary', 'control.tar.xz', 'data.tar.xz'];
    await expect(check(await inParts(':', binary, control, data))).resolves.toBeUndefined();
    for (const [script, parts, words] of [
      ['cp data.tar.xz b', [binary, control, data, 'b'], /has more parts/],
      [':', [binary, control, data, data], /has more parts/],
      [':', [binary, data, control], /has no control.tar.xz where/],
      [':', [binary, control], /has no data.tar.xz where/],
      ['unxz data.tar.xz', [binary, control, 'data.tar'], /has no data.tar.xz where/],
      [
        'unxz data.tar.xz && mv data.tar data.tar.xz',
        [binary, control, data],
        /not packed with xz/,
      ],
      ['echo 3.0 >debian-binary', [binary, control, data], /of another version/],
    ] as const)
      await expect(check(await inParts(script, ...parts))).rejects.toThrow(words);
  });

  // What Kiln reads in one way and dpkg in another could have anything in it.
  it.each<[string, string, RegExp]>([
    ['in pax’s format', 'tar --format=pax --pax-option=foo=bar', /dpkg-deb does not write/],
    ['in ustar’s format', 'tar --format=ustar', /dpkg-deb does not write/],
    ['with another owner’s name', 'tar --format=gnu --owner=www-data:0', /not root’s/],
    ['with another group’s name', 'tar --format=gnu --group=shadow:0', /not root’s/],
    ['with a time of its own', "tar --format=gnu --mtime='2020-01-01'", /a time of its own/],
    ['with other names', 'tar --format=gnu --transform=s,^./,,', /has a file called/],
  ])('is refused with a tarball %s', async (_, tar, words) => {
    const file = await packed(unchanged, ROOT);
    const home = dirname(file);
    const owner = /--owner/.test(tar) ? '' : '--owner=root:0';
    const group = /--group/.test(tar) ? '' : '--group=root:0';
    await mustRun('bash', [
      '-ec',
      `cd ${home}/tree && ${tar} ${owner} ${group} --exclude=./DEBIAN -cJf ../data.tar.xz . && cd .. && ar x ${file} debian-binary control.tar.xz`,
    ]);
    await writeAr(file, ['debian-binary', 'control.tar.xz', 'data.tar.xz']);
    await expect(check(file)).rejects.toThrow(words);
  });

  it('is refused with bytes behind a tarball’s end', async () => {
    const file = await packed(unchanged, ROOT);
    await mustRun('bash', [
      '-ec',
      `cd ${dirname(file)} && ar x ${file} && unxz data.tar.xz && echo evil >>data.tar && xz data.tar`,
    ]);
    await writeAr(file, ['debian-binary', 'control.tar.xz', 'data.tar.xz']);
    await expect(check(file)).rejects.toThrow(/bytes behind the end of a tarball/);
  });

  it('is refused where more comes out of it than may', async () => {
    await expect(check(await packed(unchanged, ROOT), 1000)).rejects.toThrow(
      /unpacks to over 1000 bytes/,
    );
  });
});
