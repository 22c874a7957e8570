import { describe, expect, it } from '@jest/globals';
import type { DkmsConf } from '../../services/core/dkms-conf.ts';
import {
  buildDirectory,
  dkmsRecipe,
  kbuildRecipe,
  sourceDirectory,
  type Recipe,
} from '../../services/core/recipe.ts';
import { debianKernel, dkmsSource, refusal } from './samples.ts';

const GENERIC = 'make -C /usr/src/linux-headers-6.1.0-56-amd64 M=/var/lib/dkms/hello/1.0/build';

const least: DkmsConf = {
  name: 'hello',
  version: '1.0',
  make: null,
  clean: null,
  preBuild: null,
  patches: [],
  modules: [
    { builtName: 'hello', builtLocation: '', name: 'hello', destination: '/extra', strip: true },
  ],
  excluded: null,
};
const recipeOf = (conf: Partial<DkmsConf>): Recipe =>
  dkmsRecipe({ ...least, ...conf }, dkmsSource, debianKernel, 4);
const makeOf = (make: string | null): string | undefined =>
  recipeOf({ make }).steps.find(({ label }) => label === 'make')?.command;

describe('the places of a source', () => {
  it('are where DKMS itself has them', () => {
    expect(buildDirectory(dkmsSource)).toBe('/var/lib/dkms/hello/1.0/build');
    expect(sourceDirectory(dkmsSource)).toBe('/var/lib/dkms/hello/1.0/source');
  });
});

describe('the recipe for a dkms.conf', () => {
  it('is DKMS’s own clean and make where the conf says neither', () => {
    expect(recipeOf({}).steps).toEqual([
      { label: 'clean', command: `${GENERIC} clean`, mayFail: true },
      {
        label: 'make',
        command: GENERIC.replace('make', 'make -j4 KERNELRELEASE=6.1.0-56-amd64'),
        mayFail: false,
      },
    ]);
  });

  it('goes in DKMS’s order: patches, pre-build, clean, make; only clean may fail', () => {
    const { steps } = recipeOf({
      patches: ['b.patch', 'a.patch'],
      preBuild: 'configure --now',
      clean: 'rm -f *.o',
      make: 'make all',
    });
    expect(steps).toEqual([
      { label: 'patch', command: "patch -p1 < ./patches/'b.patch'", mayFail: false },
      { label: 'patch', command: "patch -p1 < ./patches/'a.patch'", mayFail: false },
      { label: 'pre-build', command: './configure --now', mayFail: false },
      { label: 'clean', command: 'rm -f *.o', mayFail: true },
      { label: 'make', command: 'make -j4 KERNELRELEASE=6.1.0-56-amd64 all', mayFail: false },
    ]);
  });

  it.each([
    ['make', 'make -j4 KERNELRELEASE=6.1.0-56-amd64'],
    ["make -C '$x' && make again", "make -j4 KERNELRELEASE=6.1.0-56-amd64 -C '$x' && make again"],
    ["'make' all", "'make' all"],
    ['./build.sh make', './build.sh make'],
  ])('puts make’s parallelism and release into %j only at its front', (make, command) => {
    expect(makeOf(make)).toBe(command);
  });

  it('quotes a patch’s name for the shell', () => {
    expect(recipeOf({ patches: ["it's; rm"] }).steps[0]?.command).toBe(
      String.raw`patch -p1 < ./patches/'it'\''s; rm'`,
    );
  });

  it('lists the modules that must come out, by their path in the build directory', () => {
    const { modules } = recipeOf({
      modules: [
        { builtName: 'a', builtLocation: 'src/', name: 'b', destination: '/extra', strip: false },
        { builtName: 'c', builtLocation: '', name: 'c', destination: '/extra', strip: true },
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
  ])('is refused with %s', (_, words, conf) => {
    expect(() => recipeOf(conf)).toThrow(refusal('bad-source', words));
  });
});

describe('the recipe for plain Kbuild', () => {
  it('is make modules in the kernel’s tree, and every module that comes out', () => {
    expect(kbuildRecipe({ ...dkmsSource, kind: 'kbuild' }, debianKernel, 2)).toEqual({
      steps: [
        {
          label: 'make',
          command: `${GENERIC.replace('make', 'make -j2')} modules`,
          mayFail: false,
        },
      ],
      modules: { kind: 'every' },
    });
  });
});
