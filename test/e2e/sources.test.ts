import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import type { SourceView } from '../../services/core/protocol/source.ts';
import { debianPackage, unpackPackages } from '../machine/debian.ts';
import { dkmsSource, freshDirectory } from '../machine/make-source.ts';
import { mustRun } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';

/** What may be pushed as a source, and what is kept of it. */

const kiln = sharedKiln();

describe('a source that is pushed', () => {
  it('may be a directory, Debian’s package or a tarball of dkms: the same tree', async () => {
    const deb = await debianPackage('gost-crypto-dkms');
    const unpacked = await freshDirectory('deb');
    await mustRun('dpkg-deb', ['-x', deb, unpacked]);
    const [folder = ''] = await readdir(join(unpacked, 'usr/src'));
    const directory = join(unpacked, 'usr/src', folder);
    const tarball = join(unpacked, 'gost.dkms.tar.gz');
    const dkms = join(await unpackPackages('dkms', ['dkms']), 'usr/sbin/dkms');
    const trees = ['--sourcetree', join(unpacked, 'usr/src'), '--dkmstree', join(unpacked, 'tree')];
    const named = ['-m', 'gost-crypto', '-v', '0.3.4', ...trees];
    await mustRun('mkdir', [join(unpacked, 'tree')]);
    await mustRun('bash', [dkms, 'add', ...named]);
    await mustRun('bash', [dkms, 'mktarball', ...named, '--source-only', '--archive', tarball]);
    const pushed = [];
    for (const path of [deb, directory, tarball])
      pushed.push(await kiln.json<SourceView>('source', 'push', path));
    expect(new Set(pushed.map(({ digest }) => digest)).size).toBe(1);
    expect(pushed[0]).toMatchObject({ name: 'gost-crypto', version: '0.3.4', autoinstall: true });
  });

  it('keeps what its Debian package says its build needs, and is built only where that is', async () => {
    const source = await kiln.json<SourceView>(
      'source',
      'push',
      await debianPackage('iptables-netflow-dkms'),
    );
    expect(source.needs).toEqual(['libxtables-dev', 'pkg-config']);
    const { status, stderr } = await kiln.kiln('build', 'ipt-netflow', '-k', kiln.kernel);
    expect(status).toBe(2);
    expect(stderr).toMatch(/lacks the packages libxtables-dev.*images\/make-toolchain/);
  });

  it('keeps the commit of a clean Git checkout, and none of a changed one', async () => {
    const checkout = await dkmsSource('from-git', '');
    const git = (...args: string[]): Promise<string> =>
      mustRun('git', [
        '-C',
        checkout,
        '-c',
        'user.name=ci',
        '-c',
        'user.email=ci@example.org',
        ...args,
      ]);
    await git('init', '-q');
    await git('add', '.');
    await git('commit', '-q', '-m', 'first');
    const commit = (await git('rev-parse', 'HEAD')).trim();
    const source = await kiln.json<SourceView>('source', 'push', checkout);
    expect(source.commit).toBe(commit);
    await writeFile(join(checkout, 'new.h'), '');
    const changed = await kiln.json<SourceView>('source', 'push', checkout, '--version', '1.1');
    expect(changed.commit).toBeNull();
  });

  it('under a name and version that mean other bytes is refused', async () => {
    await kiln.json('source', 'push', await dkmsSource('immutable', ''));
    const other = await dkmsSource('immutable', '# another line');
    const { status, stderr } = await kiln.kiln('source', 'push', other);
    expect(status).toBe(2);
    expect(stderr).toMatch(/immutable\/1\.0 was pushed before with other content; .* new version/);
  });
});
