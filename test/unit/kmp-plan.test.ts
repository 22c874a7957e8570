import { describe, expect, it } from '@jest/globals';
import { importsOf } from '../../services/core/packages/module-imports.ts';
import { planPackage } from '../../services/core/packages/plan-package.ts';
import { PackagePlan } from '../../services/core/packages/plan.ts';
import { PackageSubject, type ModulesSubject } from '../../services/core/packages/subject.ts';
import { digestOf } from '../../services/core/digest.ts';
import { readModuleFile, type ModuleFile } from '../../services/core/module/module-file.ts';
import { moduleBytes, refusal } from './samples.ts';

/** Packages that track the kABI. */

const SUSE = '6.4.0-150600.23.42-default';
const subject: ModulesSubject = {
  kind: 'modules',
  build: '0123456789abcdef01234567',
  source: { name: 'Cam_era', version: '1.0-2' },
  kernel: { release: SUSE, arch: 'x86_64', version: null },
  modules: [
    {
      name: 'camera',
      signed: digestOf('ko'),
      size: 50_000,
      license: 'GPL',
      imports: { module_layout: '00000abc', _printk: '92997ed8' },
    },
    {
      name: 'camera_core',
      signed: digestOf('core'),
      size: 50_000,
      license: 'GPL',
      imports: { module_layout: '00000abc' },
    },
  ],
  files: [],
  needs: [],
  attestation: { digest: digestOf('att'), size: 5000 },
  revision: 3,
};
const plan = (release: string, more: Partial<ModulesSubject> = {}): PackagePlan =>
  planPackage('kmp', { ...subject, kernel: { ...subject.kernel, release }, ...more });

describe('a package that tracks the kABI', () => {
  it.each([
    [SUSE, 'cam-era-kmp-default', '1.0_k6.4.0_150600.23.42-2.3'],
    ['6.4.0-150600.23.42-azure', 'cam-era-kmp-azure', '1.0_k6.4.0_150600.23.42-2.3'],
    ['5.14.0-427.el9.x86_64', 'kmod-cam-era', '1.0_k5.14.0_427.el9.x86_64-2.3'],
    ['5.14.0-427.13.1.el9_4.x86_64+rt', 'kmod-cam-era-rt', '1.0_k5.14.0_427.13.1.el9_4.x86_64-2.3'],
  ])('for %s is called %s %s', (release, name, version) => {
    expect(plan(release)).toMatchObject({
      format: 'kmp',
      name,
      version,
      file: `${name}-${version}.x86_64.rpm`,
    });
  });

  it('needs each symbol once, as the kernel’s package provides it, and no kernel', () => {
    expect(plan(SUSE).rpm?.requires).toEqual([
      'kiln-modules-common',
      'ksym(default:_printk) = 92997ed8',
      'ksym(default:module_layout) = 00000abc',
    ]);
    for (const release of ['5.14.0-427.el9.x86_64', '5.14.0-427.el9.x86_64+rt'])
      expect(plan(release).rpm?.requires).toEqual([
        'kiln-modules-common',
        'kernel(_printk) = 0x92997ed8',
        'kernel(module_layout) = 0x00000abc',
      ]);
  });

  it('has its modules where packages for one kernel have them, and a list of what they need', () => {
    const { files } = plan(SUSE);
    expect(files.map(({ place }) => place)).toEqual([
      `/lib/modules/${SUSE}/updates/Cam_era/camera.ko`,
      `/lib/modules/${SUSE}/updates/Cam_era/camera_core.ko`,
      '/usr/share/doc/cam-era-kmp-default/provenance.json',
      '/usr/lib/kiln-modules/kabi/cam-era-kmp-default',
    ]);
    expect(files.at(-1)?.content).toEqual({
      text: `release ${SUSE}\nmodules updates/Cam_era\n0x92997ed8 _printk\n0x00000abc module_layout\n`,
    });
  });

  it('is in the form that travels, as are its settings, which are those of an rpm', () => {
    const files = [{ place: '/lib/modprobe.d/a.conf', digest: digestOf('conf'), size: 4 }];
    const { source, revision } = subject;
    const settings = { kind: 'settings', source, licenses: ['GPL'], files, revision } as const;
    for (const each of [{ ...subject, files }, settings, { kind: 'common' } as const]) {
      expect(PackageSubject.parse(each)).toEqual(each);
      const planned = planPackage('kmp', each);
      expect(PackagePlan.parse(planned)).toEqual(planned);
    }
    expect(planPackage('kmp', settings)).toEqual({
      ...planPackage('rpm', settings),
      format: 'kmp',
    });
    expect(plan(SUSE, { files }).rpm?.requires.at(-1)).toBe('kmod-cam-era-settings');
  });

  it('can need a thousand symbols of the longest names', () => {
    const imports = Object.fromEntries(
      Array.from({ length: 1000 }, (_, at) => [`_R${at}`.padEnd(511, 'x'), '00000001']),
    );
    const [module] = subject.modules;
    if (module === undefined) throw new Error('no module');
    const planned = plan(SUSE, { modules: [{ ...module, imports }] });
    expect(PackagePlan.parse(planned).rpm?.requires).toHaveLength(1001);
  });

  it('is not made of what is built against other sources', () => {
    expect(() => plan(SUSE, { needs: ['spl', 'znvpair'] })).toThrow(
      refusal('conflict', /Cam_era, which is built against spl, znvpair: .*; make an rpm of it$/),
    );
  });

  it('is not made where nobody says what the modules import, nor called after another', () => {
    const modules = [{ name: 'a', signed: digestOf('a'), size: 1, license: 'GPL' }];
    expect(() => plan(SUSE, { modules })).toThrow(refusal('conflict', /without what it imports/));
    const { kernel, source } = subject;
    const flavour = { kind: 'flavour', source, flavour: 'default', kernel, revision: 1 } as const;
    expect(() => planPackage('kmp', flavour)).toThrow(refusal('conflict', /none follows one/));
  });
});

describe('what modules import', () => {
  const module = (of: Partial<ModuleFile>): ModuleFile => ({
    arch: 'x86_64',
    modinfo: [['name', 'camera']],
    imports: [],
    exports: [],
    versions: new Map([['module_layout', 0xabc]]),
    ...of,
  });

  it('is read of their bytes', () => {
    const bytes = moduleBytes(['name=camera'], { module_layout: 0xabc, _printk: 0x92997ed8 });
    expect(importsOf([readModuleFile(bytes)])).toEqual([subject.modules[0]?.imports]);
  });

  it('is not what one of them exports', () => {
    const core = module({ exports: ['camera_add'] });
    const user = module({
      imports: ['camera_add'],
      versions: new Map([
        ['module_layout', 0xabc],
        ['camera_add', 1],
      ]),
    });
    expect(importsOf([core, user])).toEqual([
      { module_layout: '00000abc' },
      { module_layout: '00000abc' },
    ]);
  });

  it.each(['a b', 'a\nRequires: evil', '%(evil)', 'a)', '', '-', 'é'])(
    'cannot be told where a symbol is called %j',
    (symbol) => {
      const versions = new Map([[symbol, 1]]);
      expect(() => importsOf([module({ versions })])).toThrow(
        refusal('conflict', /one with an odd name; make an rpm of it/),
      );
    },
  );

  it('cannot be told without CRCs', () => {
    expect(() => importsOf([module({ versions: new Map() })])).toThrow(
      refusal(
        'conflict',
        /camera\.ko, which has no CRCs .* without CONFIG_MODVERSIONS; make an rpm/,
      ),
    );
    expect(() => importsOf([module({ imports: ['odd'] })])).toThrow(
      refusal('conflict', /no CRC of the symbol odd that it needs/),
    );
  });
});
