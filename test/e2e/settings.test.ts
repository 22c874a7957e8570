import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import type { BuildView } from '../../services/core/protocol/build.ts';
import { dkmsSource, freshDirectory, moduleCode } from '../machine/make-source.ts';
import { sharedKiln } from '../machine/shared.ts';

/** What a conf reads from its host comes with the request or the source. */

const kiln = sharedKiln();
const build = (source: string, ...args: string[]): Promise<BuildView> =>
  kiln.json<BuildView>('build', source, '-k', kiln.kernel, ...args);

describe('settings of a host', () => {
  const conf = `PACKAGE_CONFIG=/etc/dkms/tuned-host.conf
[ -r $PACKAGE_CONFIG ] && . $PACKAGE_CONFIG
MAKE[0]="make -C $kernel_source_dir M=$dkms_tree/tuned/1.0/build KCPPFLAGS=-DLEVEL=\${LEVEL:-1} modules"`;
  const code = moduleCode(
    '#define S(x) #x\n#define T(x) S(x)\nMODULE_DESCRIPTION("level " T(LEVEL));',
  );

  it('are laid where the dkms.conf reads them, and make another build', async () => {
    const source = await dkmsSource('tuned', conf, { 'tuned.c': code });
    const plain = await build(source);
    const file = join(await freshDirectory('settings'), 'conf');
    await writeFile(file, 'LEVEL=7\n');
    const tuned = await build(source, '--setting', `/etc/dkms/tuned-host.conf=${file}`);
    expect(tuned.id).not.toBe(plain.id);
    const modinfoOf = async ({ id }: BuildView): Promise<string> =>
      JSON.stringify((await kiln.json<{ modules: { modinfo: unknown }[] }>('show', id)).modules);
    expect(await modinfoOf(plain)).toContain('level 1');
    expect(await modinfoOf(tuned)).toContain('level 7');
  });

  it('may come with the source, and are then part of it', async () => {
    const file = join(await freshDirectory('settings'), 'conf');
    await writeFile(file, 'LEVEL=3\n');
    const source = await dkmsSource('tuned', conf.replace('/tuned/1.0', '/tuned/2.0'), {
      'tuned.c': code,
    });
    const with2 = (await readFile(join(source, 'dkms.conf'), 'utf8')).replace('=1.0', '=2.0');
    await writeFile(join(source, 'dkms.conf'), with2);
    await kiln.json('source', 'push', source, '--setting', `/etc/dkms/tuned-host.conf=${file}`);
    const made = await build('tuned/2.0');
    expect(JSON.stringify(made.modules)).toContain('level 3');
    // The same tree without them is another source.
    expect((await kiln.kiln('source', 'push', source)).status).toBe(2);
  });

  it('of a client make a module that is not signed: they can change all that is built', async () => {
    const token = await kiln.json<{ secret: string }>('token', 'create', 'settings-client');
    await kiln.json('source', 'push', await dkmsSource('tailored', ''));
    const folder = await freshDirectory('settings');
    await writeFile(
      join(folder, 'conf'),
      'MAKE[0]="cp /etc/dkms/other.c tailored.c && make -C $kernel_source_dir M=$dkms_tree/tailored/1.0/build modules"\n',
    );
    await writeFile(join(folder, 'other.c'), moduleCode('MODULE_DESCRIPTION("somebody else");'));
    const { status, stdout } = await kiln.kilnAs(
      token.secret,
      'build',
      'tailored',
      '-k',
      kiln.kernel,
      '--setting',
      `/etc/dkms/tailored.conf=${join(folder, 'conf')}`,
      '--setting',
      `/etc/dkms/other.c=${join(folder, 'other.c')}`,
      '--json',
      '-q',
    );
    expect(status).toBe(0);
    expect(stdout).toContain('somebody else');
    expect(JSON.parse(stdout)).toMatchObject({
      signature: { kind: 'unsigned', reason: expect.stringMatching(/settings or waivers/) },
    });
    // The source as it is, asked for by the same client, is signed.
    const plain = await kiln.kilnAs(
      token.secret,
      'build',
      'tailored',
      '-k',
      kiln.kernel,
      '--json',
      '-q',
    );
    expect(JSON.parse(plain.stdout)).toMatchObject({ signature: { kind: 'signed' } });
  });

  it('may overrule the dkms.conf itself, as /etc/dkms/NAME.conf does on a host', async () => {
    const source = await dkmsSource('overruled', '');
    const file = join(await freshDirectory('settings'), 'conf');
    await writeFile(file, 'BUILD_EXCLUSIVE_ARCH=s390x\n');
    const { status } = await kiln.kiln(
      'build',
      source,
      '-k',
      kiln.kernel,
      '--setting',
      `/etc/dkms/overruled.conf=${file}`,
    );
    expect(status).toBe(77);
  });

  it.each(['/usr/bin/gcc', '/etc/../usr/bin/gcc', 'relative', '/etc'])(
    'are refused at %s',
    async (path) => {
      const { status, stderr } = await kiln.kiln(
        'build',
        'v4l2loopback',
        '-k',
        kiln.kernel,
        '--setting',
        `${path}=/etc/hostname`,
      );
      expect([status, stderr]).toEqual([
        2,
        expect.stringMatching(/not where a settings file can be/),
      ]);
    },
  );
});
