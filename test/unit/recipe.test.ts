import { describe, expect, it } from '@jest/globals';
import type { DkmsConf } from '../../services/core/source/dkms-conf.ts';
import {
  buildDirectory,
  dkmsRecipe,
  kbuildRecipe,
  kernelSourceDir,
  packageDirectory,
  resultDirectory,
  sourceDirectory,
  type Recipe,
  type Step,
} from '../../services/core/build/recipe.ts';
import { debianKernel, dkmsSource, refusal } from './samples.ts';

const GENERIC = 'make -C /lib/modules/6.1.0-56-amd64/build M=/var/lib/dkms/hello/1.0/build';

const least: DkmsConf = {
  name: 'hello',
  version: '1.0',
  make: null,
  clean: null,
  preBuild: null,
  postBuild: null,
  patches: [],
  dependencies: [],
  mayLink: true,
  passedOver: [],
  modules: [{ builtName: 'hello', builtLocation: '', name: 'hello', strip: true }],
  excluded: null,
};
const recipeOf = (conf: Partial<DkmsConf>, kernel = debianKernel): Recipe =>
  dkmsRecipe({ ...least, ...conf }, dkmsSource, kernel, 4);
const makeOf = (make: string | null, kernel = debianKernel): string | undefined =>
  recipeOf({ make }, kernel).steps.find(({ label }) => label === 'make')?.command;

describe('the places of a source', () => {
  it('are where DKMS itself has them', () => {
    expect(buildDirectory(dkmsSource)).toBe('/var/lib/dkms/hello/1.0/build');
    expect(packageDirectory(dkmsSource)).toBe('/var/lib/dkms/hello/1.0');
    expect(sourceDirectory(dkmsSource)).toBe('/usr/src/hello-1.0');
    expect(resultDirectory(dkmsSource, debianKernel)).toBe(
      '/var/lib/dkms/hello/1.0/6.1.0-56-amd64/x86_64',
    );
    expect(kernelSourceDir(debianKernel)).toBe('/lib/modules/6.1.0-56-amd64/build');
  });
});

describe('the recipe for a dkms.conf', () => {
  it('is DKMS’s own make where the conf says none', () => {
    expect(recipeOf({}).steps).toEqual([
      { label: 'clean', command: `${GENERIC} clean`, kind: 'clean' },
      {
        label: 'make',
        command: GENERIC.replace('make', 'make -j4 KERNELRELEASE=6.1.0-56-amd64'),
        kind: 'one',
      },
    ]);
  });

  it.each([{ name: 'other' }, { version: '1.1' }, { name: '' }, { version: '' }])(
    'is refused where the conf says %j, as that is another source or none',
    (said) => {
      expect(() => recipeOf(said)).toThrow(refusal('bad-source', /but the source was pushed as/));
    },
  );

  it.each([{ version: '#MODULE_VERSION#' }, { name: '@name@' }])(
    'is the same where the conf says %j, which can be no name or version',
    (said) => expect(recipeOf(said)).toEqual(recipeOf({})),
  );

  it('goes in DKMS’s order: patches, pre-build, clean, make, post-build', () => {
    const { steps } = recipeOf({
      patches: ['b.patch', 'a.patch'],
      preBuild: 'configure --now',
      postBuild: 'keep $kernelver',
      make: 'make all',
      clean: 'make distclean',
    });
    expect(steps).toEqual([
      { label: 'patch', command: "patch -p1 < ./patches/'b.patch'", kind: 'one' },
      { label: 'patch', command: "patch -p1 < ./patches/'a.patch'", kind: 'one' },
      { label: 'pre-build', command: 'configure --now', kind: 'script' },
      { label: 'clean', command: 'make distclean', kind: 'clean' },
      { label: 'make', command: 'make -j4 KERNELRELEASE=6.1.0-56-amd64 all', kind: 'one' },
      { label: 'post-build', command: 'keep $kernelver', kind: 'script' },
    ]);
  });

  it('asks for a source that was pushed with all it is built against, in any order', () => {
    const conf = { ...least, dependencies: ['zfs', 'spl'] };
    const pushed = { ...dkmsSource, depends: ['other', 'spl', 'zfs'] };
    expect(dkmsRecipe(conf, pushed, debianKernel, 4)).toEqual(recipeOf({}));
    expect(() => dkmsRecipe(conf, { ...dkmsSource, depends: ['zfs'] }, debianKernel, 4)).toThrow(
      refusal('bad-source', /names spl, .* with --depends spl$/),
    );
  });

  it.each([
    ['make', 'make -j4 KERNELRELEASE=6.1.0-56-amd64'],
    ["make -C '$x' && make again", "make -j4 KERNELRELEASE=6.1.0-56-amd64 -C '$x' && make again"],
    ["'make' all", "'make' all"],
    ['./build.sh make', './build.sh make'],
  ])('puts make’s parallelism and release into %j only at its front', (make, command) => {
    expect(makeOf(make)).toBe(command);
  });

  it.each<[string, Step['kind']]>([
    ['make all', 'one'],
    ['make -C a && make -C b', 'spread'],
    ['make a; find . -name x', 'spread'],
    ['(make a; make b)', 'spread'],
    ['./build.sh', 'spread'],
    ["'make' all", 'one'],
    ["(cd a && 'make' all)", 'one'],
  ])('lets %j spread over the CPUs: %s', (make, kind) => {
    expect(recipeOf({ make }).steps.find(({ label }) => label === 'make')?.kind).toBe(kind);
  });

  it('quotes a patch’s name for the shell', () => {
    expect(recipeOf({ patches: ["it's; rm"] }).steps[0]?.command).toBe(
      String.raw`patch -p1 < ./patches/'it'\''s; rm'`,
    );
  });

  it('lists the modules that must come out, by their path in the build directory', () => {
    const { modules } = recipeOf({
      modules: [
        { builtName: 'a', builtLocation: 'src/', name: 'b', strip: false },
        { builtName: 'c', builtLocation: '', name: 'c', strip: true },
      ],
    });
    expect(modules).toEqual({
      kind: 'listed',
      list: [
        { path: 'src/a.ko', name: 'b', strip: false },
        { path: 'c.ko', name: 'c', strip: true },
      ],
    });
  });

  it.each<[string, RegExp, Partial<DkmsConf>]>([
    ['another name than was pushed', /says other\/1\.0, .* as hello\/1\.0/, { name: 'other' }],
    ['another version than was pushed', /says hello\/2, .* as hello\/1\.0/, { version: '2' }],
    ['no module', /lists no module/, { modules: [] }],
    [
      'dependencies that the push did not say',
      /BUILD_DEPENDS names zfs, spl, .* push it with --depends zfs,spl$/,
      { dependencies: ['zfs', 'spl'] },
    ],
  ])('is refused with %s', (_, words, conf) => {
    expect(() => recipeOf(conf)).toThrow(refusal('bad-source', words));
  });
});

describe('the recipe for plain Kbuild', () => {
  it('is make modules in the kernel’s tree, and every module that comes out', () => {
    expect(kbuildRecipe({ ...dkmsSource, kind: 'kbuild' }, debianKernel, 2)).toEqual({
      steps: [
        { label: 'clean', command: `${GENERIC} clean`, kind: 'clean' },
        {
          label: 'make',
          command: `${GENERIC.replace('make', 'make -j2')} modules`,
          kind: 'one',
        },
      ],
      modules: { kind: 'every' },
      mayLink: true,
      passedOver: [],
    });
  });
});
