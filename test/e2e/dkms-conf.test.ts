import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import type { BuildView } from '../../services/core/protocol/build.ts';
import { dkmsSource, freshDirectory, moduleCode, writeTree } from '../machine/make-source.ts';
import { mustRun } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';

/** That what a `dkms.conf` says is done, or refused by name. */

const kiln = sharedKiln();
const build = (source: string, ...args: string[]): Promise<BuildView> =>
  kiln.json<BuildView>('build', source, '-k', kiln.kernel, ...args);

/** A source of several modules, all of the same code, with what `conf` says of them. */
const several = (name: string, modules: readonly string[], conf: string): Promise<string> =>
  writeTree(name, {
    'dkms.conf': [
      `PACKAGE_NAME=${name}`,
      'PACKAGE_VERSION=1.0',
      ...modules.flatMap((module, index) => [
        `BUILT_MODULE_NAME[${index}]=${module}`,
        `DEST_MODULE_LOCATION[${index}]=/extra`,
      ]),
      conf,
    ].join('\n'),
    Kbuild: `obj-m := ${modules.map((module) => `${module}.o`).join(' ')}\n`,
    ...Object.fromEntries(modules.map((module) => [`${module}.c`, moduleCode()])),
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

  it('each BUILD_EXCLUSIVE directive of a module leaves out that one, and the others are built', async () => {
    const source = await several(
      'choosy',
      ['none', 'kernel', 'least', 'most', 'cpu', 'option', 'all'],
      `BUILD_EXCLUSIVE_KERNEL[1]="^5"
  BUILD_EXCLUSIVE_KERNEL_MIN[2]=7.0
  BUILD_EXCLUSIVE_KERNEL_MAX[3]=5.10
  BUILD_EXCLUSIVE_ARCH[4]=aarch64
  BUILD_EXCLUSIVE_CONFIG[5]="CONFIG_MODULES !CONFIG_SMP"
  BUILD_EXCLUSIVE_KERNEL[6]="^6"
  BUILD_EXCLUSIVE_KERNEL_MIN[6]=6.1
  BUILD_EXCLUSIVE_KERNEL_MAX[6]=6.2
  BUILD_EXCLUSIVE_ARCH[6]="x86_64|aarch64"
  BUILD_EXCLUSIVE_CONFIG[6]="CONFIG_SMP !CONFIG_NO_SUCH_OPTION"
  `,
    );
    const { modules } = await kiln.json<BuildView>('build', source, '-k', kiln.kernel);
    expect(modules.map(({ name }) => name)).toEqual(['all', 'none']);
  });

  it('STRIP keeps debug information for the modules that say so, and the first speaks for the silent', async () => {
    const source = await several(
      'bare',
      ['first', 'silent', 'bald'],
      'STRIP[0]=no\nSTRIP[2]=yes\n',
    );
    const output = await freshDirectory('modules');
    await kiln.json('build', source, '-k', kiln.kernel, '-o', output);
    const sizeOf = async (name: string): Promise<number> =>
      (await stat(join(output, `${name}.ko`))).size;
    const stripped = await sizeOf('bald');
    expect(await sizeOf('first')).toBeGreaterThan(stripped * 3);
    expect(await sizeOf('silent')).toBeGreaterThan(stripped * 3);
  });

  it('a value that looks like a pattern of files is left as it is', async () => {
    const source = await several(
      'starry',
      ['starry'],
      'MAKE[0]="make -C $kernel_source_dir M=$dkms_tree/starry/1.0/build STARS=* modules"\n',
    );
    const { id } = await kiln.json<BuildView>('build', source, '-k', kiln.kernel);
    expect((await kiln.kiln('logs', id)).stdout).toMatch(/^kiln: make: make .* STARS=\* modules$/m);
  });

  it('two modules of one name are refused, and a kernel after OBSOLETE_BY is excluded', async () => {
    const two = await several('twice', ['one', 'other'], 'DEST_MODULE_NAME[1]=one\n');
    const refused = await kiln.kiln('build', two, '-k', kiln.kernel);
    expect([refused.status, refused.stderr]).toEqual([
      1,
      expect.stringMatching(/two modules with the same DEST_MODULE_NAME one/),
    ]);
    const old = await several('old', ['old'], 'OBSOLETE_BY=5.10\n');
    const excluded = await kiln.kiln('build', old, '-k', kiln.kernel);
    expect([excluded.status, excluded.stderr]).toEqual([
      77,
      expect.stringMatching(/by its own word: OBSOLETE_BY="5\.10" leaves out/),
    ]);
  });
});
