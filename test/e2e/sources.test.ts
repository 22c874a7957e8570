import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import type { BuildView, SourceView } from '../../services/core/protocol.ts';
import { debianPackage, unpackPackages } from '../machine/debian.ts';
import { dkmsSource, freshDirectory, moduleCode, writeTree } from '../machine/make-source.ts';
import { mustRun } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';

const kiln = sharedKiln();
const build = (source: string, ...args: string[]): Promise<BuildView> =>
  kiln.json<BuildView>('build', source, '-k', kiln.kernel, ...args);

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
    expect(source.needs).toEqual(['libxtables-dev']);
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

describe('a dkms.conf', () => {
  it('has its patches, PRE_BUILD, MAKE_MATCH, per-module arrays and POST_BUILD followed', async () => {
    const source = await writeTree('all', {
      'dkms.conf': `PACKAGE_NAME=all
PACKAGE_VERSION=1.0
MAKE[0]="false"
MAKE[1]="make -C \${kernel_source_dir} M=\${dkms_tree}/all/1.0/build modules"
MAKE_MATCH[1]="^6\\\\."
PATCH[0]=name.patch
PATCH[1]=broken.patch
PATCH_MATCH[1]="^5\\\\."
PRE_BUILD="prepare.sh   one
  two"
POST_BUILD="after.sh"
BUILT_MODULE_NAME[0]=first
BUILT_MODULE_NAME[1]=second
BUILT_MODULE_NAME[2]=third
BUILT_MODULE_LOCATION[1]=sub
DEST_MODULE_NAME[1]=renamed
DEST_MODULE_LOCATION[0]=/extra
DEST_MODULE_LOCATION[1]=/updates
DEST_MODULE_LOCATION[2]=/updates
DKMS_DIRECTIVE_1="STRIP[1]=no"
BUILD_EXCLUSIVE_KERNEL_MIN=5.10
BUILD_EXCLUSIVE_CONFIG="CONFIG_MODULES !CONFIG_NO_SUCH_OPTION"
BUILD_EXCLUSIVE_KERNEL[2]="^5\\\\."
AUTOINSTALL=yes
`,
      Kbuild: 'obj-m := first.o sub/\n',
      'sub/Kbuild': 'obj-m := renamed.o\nrenamed-y := made.o\n',
      'first.c': moduleCode('MODULE_DESCRIPTION("unpatched");'),
      'patches/name.patch':
        '--- a/first.c\n+++ b/first.c\n@@ -1,2 +1,2 @@\n #include <linux/module.h>\n-MODULE_DESCRIPTION("unpatched");\n+MODULE_DESCRIPTION("patched");\n',
      'patches/broken.patch': 'no patch',
      'sub/made.c': '#error PRE_BUILD should have made this\n',
      'prepare.sh': `#!/bin/sh
[ $# = 2 ] && [ "$2" = two ] && cat >sub/made.c <<'END'
${moduleCode()}END
sed -i 's/renamed/second/g' sub/Kbuild
`,
      'after.sh': '#!/bin/sh\ncp Module.symvers ../6*/x86_64/\n',
    });
    await mustRun('chmod', ['755', join(source, 'prepare.sh'), join(source, 'after.sh')]);
    const made = await build(source);
    expect(made.modules.map(({ name }) => name)).toEqual(['first', 'renamed']);
    const [first, renamed] = made.modules.map(({ modinfo }) => new Map(modinfo));
    expect(first?.get('description')).toBe('patched');
    expect(renamed?.get('name')).toBe('second');
    expect(made.recipe?.['modules']).toMatchObject({
      list: [
        { name: 'first', strip: true },
        { name: 'renamed', strip: false },
      ],
    });
  });

  it('that embeds the date of its build gets the same one every time, and those it asks for', async () => {
    const source = await dkmsSource('dated', 'PRE_BUILD=stamp.sh', {
      'stamp.sh':
        '#!/bin/sh\necho "#define STAMP \\"$(date +%Y-%m-%d) $(date -d 2020-02-02 +%Y)\\"" >stamp.h\n',
      'dated.c': moduleCode('#include "stamp.h"\nMODULE_DESCRIPTION("made " STAMP);'),
    });
    await mustRun('chmod', ['755', join(source, 'stamp.sh')]);
    const made = await build(source);
    expect(new Map(made.modules[0]?.modinfo).get('description')).toBe('made 2001-09-09 2020');
    expect(await kiln.json('rebuild', made.id)).toMatchObject({ state: 'same' });
  });

  it('that excludes this kernel makes that the outcome: no failure, exit 77, and not tried again', async () => {
    const source = await dkmsSource('excluded', 'BUILD_EXCLUSIVE_KERNEL_MAX=5.10');
    const first = await kiln.kiln('build', source, '-k', kiln.kernel, '--json', '-q');
    expect(first.status).toBe(77);
    expect(first.stderr).toMatch(
      /excluded\/1\.0 is not for 6\.1\S+, by its own word: BUILD_EXCLUSIVE_KERNEL_MAX="5\.10" leaves out/,
    );
    expect(JSON.parse(first.stdout)).toMatchObject({ state: 'excluded', failure: null });
    const again = await kiln.kiln('build', source, '-k', kiln.kernel, '--json', '-q');
    expect((JSON.parse(again.stdout) as BuildView).id).toBe(
      (JSON.parse(first.stdout) as BuildView).id,
    );
  });

  it.each([
    ['POST_INSTALL=x.sh', /uses POST_INSTALL, which Kiln cannot honour/],
    ['PRE_INSTALL=x.sh', /uses PRE_INSTALL, which Kiln cannot honour/],
    ['BUILD_DEPENDS[0]="$(echo somebody)"', /BUILD_DEPENDS names somebody.*--depends somebody/],
  ])('with %s is refused by that name', async (line, words) => {
    const name = `refused-${/^\w+/.exec(line)?.[0].toLowerCase() ?? ''}`;
    const { status, stderr } = await kiln.kiln(
      'build',
      await dkmsSource(name, line),
      '-k',
      kiln.kernel,
    );
    expect([status, stderr]).toEqual([1, expect.stringMatching(words)]);
  });
});

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
      expect([status, stderr]).toEqual([2, expect.stringMatching(/no place for a settings file/)]);
    },
  );
});

describe('a source that depends on another', () => {
  const provider = (name: string, version = '1.0') =>
    writeTree(name, {
      'dkms.conf': `PACKAGE_NAME=${name}\nPACKAGE_VERSION=${version}\nBUILT_MODULE_NAME=${name}\nDEST_MODULE_LOCATION=/extra\n`,
      Kbuild: `obj-m := ${name}.o\n`,
      [`${name}.c`]: moduleCode(
        `int ${name}_answer(void) { return 42; }\nEXPORT_SYMBOL_GPL(${name}_answer);`,
      ),
      [`${name}.h`]: `int ${name}_answer(void);\n`,
    });
  const user = (name: string, on: string) =>
    dkmsSource(name, `BUILD_DEPENDS[0]="${on}"`, {
      Makefile: `obj-m := ${name}.o\nccflags-y := -I$(wildcard /usr/src/${on}-1.0)\n`,
      [`${name}.c`]: `#include <linux/module.h>
#include "${on}.h"
static int __init start(void) { return ${on}_answer() == 42 ? 0 : -1; }
module_init(start);
MODULE_LICENSE("GPL");
`,
    });

  it('is built after it, against its headers and the CRCs of its symbols', async () => {
    await kiln.json('source', 'push', await provider('giver'));
    const made = await build(await user('taker', 'giver'));
    expect(made.dependencies).toHaveLength(1);
    const [on = ''] = made.dependencies;
    expect(await kiln.json<BuildView>('show', on)).toMatchObject({ state: 'succeeded' });
    const modinfo = JSON.stringify(await kiln.json('show', made.id));
    expect(modinfo).toContain('["depends","giver"]');
  });

  it('is not made again while that one’s modules are lost, and is once they are made again', async () => {
    await kiln.json('source', 'push', await provider('lost_giver'));
    const made = await build(await user('lost_taker', 'lost_giver'));
    const [on = ''] = made.dependencies;
    const giver = await kiln.json<BuildView>('show', on);
    const blobOf = (digest: string): string => {
      const hex = digest.slice('sha256:'.length);
      return join(kiln.data, 'blobs', hex.slice(0, 2), hex);
    };
    const forgetUnpacked = (): Promise<void> =>
      rm(join(kiln.data, 'builder', `dependency-${giver.fingerprint.slice('sha256:'.length)}`), {
        recursive: true,
      });
    await rm(blobOf(giver.modules[0]?.unsigned ?? ''));
    await forgetUnpacked();
    const lost = await kiln.kiln('rebuild', made.id);
    expect([lost.status, lost.stderr]).toEqual([
      1,
      expect.stringContaining(
        `the rebuild failed: it is built against lost_giver/1.0, whose modules are not stored any more; make them again first (kiln rebuild ${on})`,
      ),
    ]);
    expect(await kiln.json('rebuild', on)).toMatchObject({ state: 'same' });
    expect(await kiln.json('rebuild', made.id)).toMatchObject({ state: 'same' });
  });

  it('fails with it, saying which', async () => {
    const broken = await dkmsSource('broken-giver', '', { 'broken-giver.c': '#error no\n' });
    await kiln.json('source', 'push', broken);
    const source = await user('sad', 'broken-giver');
    const { status, stderr } = await kiln.kiln('build', source, '-k', kiln.kernel);
    expect([status, stderr]).toEqual([
      1,
      expect.stringMatching(
        /built against broken-giver\/1\.0, whose build [0-9a-f]{24} is failed.*dependency-failed/,
      ),
    ]);
  });

  it('is refused while that is not here, or where they depend on each other', async () => {
    const alone = await kiln.kiln('build', await user('alone', 'nobody-has-it'), '-k', kiln.kernel);
    expect([alone.status, alone.stderr]).toEqual([
      3,
      expect.stringMatching(/no source nobody-has-it here/),
    ]);
    await kiln.json('source', 'push', await user('ring-a', 'ring-b'));
    await kiln.json('source', 'push', await user('ring-b', 'ring-a'));
    const ring = await kiln.kiln('build', 'ring-a', '-k', kiln.kernel);
    expect([ring.status, ring.stderr]).toEqual([
      2,
      expect.stringMatching(/ring-a → ring-b → ring-a/),
    ]);
  });
});
