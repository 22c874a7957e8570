import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from '@jest/globals';
import { freshDirectory } from '../machine/make-source.ts';
import type { Ran } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';

/** Where DKMS keeps its modules: test/e2e/import-dkms.test.ts has it moved by DKMS's own drop-in; here are files that are not plain. */

const kiln = sharedKiln();

describe('a host whose framework.conf', () => {
  let root: string;

  const dryRun = (...args: string[]): Promise<Ran> =>
    kiln.kiln('import-dkms', '--dry-run', '--root', root, '-q', ...args);
  const framework = (text: string): Promise<void> =>
    writeFile(join(root, 'etc/dkms/framework.conf'), text);
  const dropIn = (name: string, text: string): Promise<void> =>
    writeFile(join(root, 'etc/dkms/framework.conf.d', name), text);

  /** A source that is added and built for a kernel that is gone: enough to be listed. */
  beforeEach(async () => {
    root = await freshDirectory('dkms');
    const home = join(root, 'srv/dkms/moved/1.0');
    await mkdir(join(home, '6.1.0-1-amd64/x86_64/module'), { recursive: true });
    await writeFile(join(home, '6.1.0-1-amd64/x86_64/module/moved.ko'), '');
    await mkdir(join(root, 'usr/src/moved-1.0'), { recursive: true });
    await symlink('/usr/src/moved-1.0', join(home, 'source'));
    await mkdir(join(root, 'etc/dkms/framework.conf.d'), { recursive: true });
  });

  const FOUND = {
    status: 0,
    stdout: expect.stringMatching(/^moved\/1\.0 +6\.1\.0-1-amd64 +not in use/),
  };

  it.each([
    [
      'in quotes, beside shell that matters to nobody',
      'sign_file="$(which x)"\ndkms_tree="/srv/dkms"  # here\n',
    ],
    ['bare', '# dkms_tree=/nowhere\n\tdkms_tree=/srv/dkms\n'],
    ['in single quotes', "verbose=1\ndkms_tree='/srv/dkms'\n"],
  ])('moves the tree %s is read', async (_, text) => {
    await framework(text);
    expect(await dryRun()).toMatchObject(FOUND);
  });

  it('is overridden by drop-ins, the last by name counting', async () => {
    await framework('dkms_tree=/a\n');
    await dropIn('20-last.conf', 'dkms_tree=/srv/dkms\n');
    await dropIn('10-first.conf', 'dkms_tree=/b\n');
    await dropIn('30-none.txt', 'dkms_tree=/c\n');
    expect(await dryRun()).toMatchObject(FOUND);
  });

  it('is silent leaves the tree where it usually is, and it is said where was looked', async () => {
    expect(await dryRun()).toMatchObject({
      status: 0,
      stdout: 'DKMS has installed nothing here: there is nothing in /var/lib/dkms\n',
    });
  });

  it.each([
    'dkms_tree="$HOME/dkms"\n',
    'if true; then\n dkms_tree=/srv/dkms\nfi\n',
    'export dkms_tree=/srv/dkms\n',
    'dkms_tree=`cat /etc/where`\n',
    '. /etc/default/dkms\n',
    'dkms_tree+=/x\n',
  ])(
    'is shell that would have to be run (%j) is not run: it is said, with what helps',
    async (text) => {
      await framework(text);
      expect(await dryRun()).toMatchObject({
        status: 7,
        stderr: expect.stringMatching(/framework\.conf says .* in shell.*--dkms-tree\n$/),
      });
      expect(await dryRun('--dkms-tree', '/srv/dkms')).toMatchObject(FOUND);
    },
  );
});
