import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from '@jest/globals';
import { freshDirectory, moduleCode, writeTree } from '../machine/make-source.ts';
import { sharedKiln } from '../machine/shared.ts';

interface Build {
  readonly id: string;
  readonly modules: readonly { readonly name: string }[];
}

const kiln = sharedKiln();

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
  const { modules } = await kiln.json<Build>('build', source, '-k', kiln.kernel);
  expect(modules.map(({ name }) => name)).toEqual(['all', 'none']);
});

it('STRIP keeps debug information for the modules that say so, and the first speaks for the silent', async () => {
  const source = await several('bare', ['first', 'silent', 'bald'], 'STRIP[0]=no\nSTRIP[2]=yes\n');
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
  const { id } = await kiln.json<Build>('build', source, '-k', kiln.kernel);
  expect((await kiln.kiln('logs', id)).stdout).toMatch(/^kiln: make: make .* STARS=\* modules$/m);
});

it('two modules of one name are refused, and a kernel after OBSOLETE_BY is excluded', async () => {
  const two = await several('twice', ['one', 'other'], 'DEST_MODULE_NAME[1]=one\n');
  const refused = await kiln.kiln('build', two, '-k', kiln.kernel);
  expect([refused.status, refused.stderr]).toEqual([
    1,
    expect.stringMatching(/two modules with the DEST_MODULE_NAME one/),
  ]);
  const old = await several('old', ['old'], 'OBSOLETE_BY=5.10\n');
  const excluded = await kiln.kiln('build', old, '-k', kiln.kernel);
  expect([excluded.status, excluded.stderr]).toEqual([
    77,
    expect.stringMatching(/by its own word: OBSOLETE_BY="5\.10" leaves out/),
  ]);
});
