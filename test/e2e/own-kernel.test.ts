import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from '@jest/globals';
import type { BuildView } from '../../services/core/protocol/build.ts';
import { kernelDevel } from '../machine/kernel-devel.ts';
import { dkmsSource, freshDirectory } from '../machine/make-source.ts';
import { builtOutside, ownKernel, type OwnKernel } from '../machine/own-kernel.ts';
import { mustRun } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';

interface Kernel {
  readonly digest: string;
  readonly release: string;
  readonly sent: number;
}

const kiln = sharedKiln();
const push = (...args: string[]): Promise<Kernel> => kiln.json<Kernel>('kernel', 'push', ...args);

describe('a kernel that somebody built', () => {
  let own: OwnKernel;
  let first: Kernel;
  beforeAll(async () => {
    own = await ownKernel(kiln.headers, kiln.release);
  });

  it('is the same from its host, a directory or a tarball, however large its programs', async () => {
    first = await push('--root', own.root, '-k', own.release);
    expect(first.release).toBe(own.release);
    const tarball = join(await freshDirectory('own'), 'own.tar.gz');
    await mustRun('tar', ['-C', own.tree, '-czf', tarball, '.']);
    expect((await push(tarball)).digest).toBe(first.digest);
    expect(await push(own.tree)).toMatchObject({ digest: first.digest, sent: 0 });
  });

  it('is sent without what its own build has left: gigabytes of objects, and its signing key', async () => {
    const huge = join(own.tree, 'vmlinux.o');
    await mustRun('truncate', ['-s', '3G', huge]);
    const pushed = await push('--root', own.root, '-k', own.release);
    await rm(huge);
    expect(pushed).toMatchObject({ digest: first.digest, sent: 0 });
    const files = await fetch(`${kiln.url}/v1/kernels/${first.digest}/files`, {
      headers: { Authorization: `Bearer ${await kiln.adminToken()}` },
    });
    const listed = await files.text();
    expect(listed).toMatch(/Module\.symvers/);
    expect(listed).not.toMatch(/signing_key|main\.o/);
  });

  it('has modules built under its own name', async () => {
    const made = await kiln.json<BuildView>(
      'build',
      await dkmsSource('forged', ''),
      '-k',
      own.release,
    );
    expect(new Map(made.modules[0]?.modinfo).get('vermagic')).toMatch(`${own.release} `);
  });

  it('has modules built where it comes as an RPM package, too', async () => {
    const { digest } = await push(await kernelDevel(own.tree, own.release));
    const made = await kiln.json<BuildView>('build', await dkmsSource('packed', ''), '-k', digest);
    expect(new Map(made.modules[0]?.modinfo).get('vermagic')).toMatch(`${own.release} `);
  });

  it('is the same kernel where it was built outside its source', async () => {
    const outside = await builtOutside(own);
    expect(await push('--root', outside.root, '-k', outside.release)).toMatchObject({
      digest: first.digest,
      sent: 0,
    });
    const alone = await kiln.kiln('kernel', 'push', outside.tree);
    expect([alone.status, alone.stderr]).toEqual([
      2,
      expect.stringMatching(
        /hands over to \/home\/dev\/linux, which is not among them; .*kiln kernel push/,
      ),
    ]);
  });
});
