import { describe, expect, it } from '@jest/globals';
import { kabiOf, SYMBOLS, type Kabi } from '../../services/core/packages/kabi.ts';
import { planPackage } from '../../services/core/packages/plan-package.ts';
import { versionOrder } from '../../services/core/packages/names.ts';
import { PackagePlan } from '../../services/core/packages/plan.ts';
import { PackageSubject, type ModulesSubject } from '../../services/core/packages/subject.ts';
import { digestOf } from '../../services/core/digest.ts';
import { readModuleFile, type ModuleFile } from '../../services/core/module/module-file.ts';
import { moduleBytes, refusal } from './samples.ts';

/** Packages that track the kABI. */

const SUSE = '6.4.0-150600.23.42-default';
const kabi: Kabi = {
  symbols: [
    ['_printk', '92997ed8'],
    ['module_layout', '00000abc'],
  ],
  vermagic: 'SMP preempt mod_unload modversions',
  isGpl: true,
  namespaces: ['DMA_BUF'],
};
const subject: ModulesSubject = {
  kind: 'modules',
  build: '0123456789abcdef01234567',
  source: { name: 'Cam_era', version: '1.0-2' },
  kernel: { release: SUSE, arch: 'x86_64', version: null },
  modules: [
    { name: 'camera', signed: digestOf('ko'), size: 50_000, license: 'GPL' },
    { name: 'camera_core', signed: digestOf('core'), size: 50_000, license: 'GPL' },
  ],
  files: [],
  needs: [],
  attestation: { digest: digestOf('att'), size: 5000 },
  kabi,
  revision: 3,
};
const plan = (release: string, more: Partial<ModulesSubject> = {}): PackagePlan =>
  planPackage('kmp', { ...subject, kernel: { ...subject.kernel, release }, ...more });

describe('a package that tracks the kABI', () => {
  it.each([
    [SUSE, 'cam-era-kmp-default', '1.0-2_k6.4.0_150600.23.42.3'],
    ['6.4.0-150600.23.42-azure', 'cam-era-kmp-azure', '1.0-2_k6.4.0_150600.23.42.3'],
    ['6.4.0-150600.10.5-rt_debug', 'cam-era-kmp-rt_debug', '1.0-2_k6.4.0_150600.10.5.3'],
    ['5.14.0-427.el9.x86_64', 'kmod-cam-era', '1.0-2_k5.14.0_427.el9.x86_64.3'],
    ['5.14.0-427.13.1.el9_4.x86_64+rt', 'kmod-cam-era-rt', '1.0-2_k5.14.0_427.13.1.el9_4.x86_64.3'],
  ])('for %s is called %s %s', (release, name, version) => {
    expect(plan(release)).toMatchObject({
      format: 'kmp',
      name,
      version,
      file: `${name}-${version}.x86_64.rpm`,
    });
  });

  it('is newer where its source is, then its packaging, then the kernel it was built for', () => {
    const order = versionOrder('kmp');
    const rising = [
      plan(SUSE, { source: { name: 'a', version: '1.0' } }),
      plan(SUSE, { source: { name: 'a', version: '1.0-1' } }),
      plan('6.4.0-150600.23.60-default', { source: { name: 'a', version: '1.0-1' } }),
      plan(SUSE, { source: { name: 'a', version: '1.0-2' } }),
      plan(SUSE, { source: { name: 'a', version: '1.0a' } }),
      plan(SUSE, { source: { name: 'a', version: '1.0.1' } }),
    ].map(({ version }) => version);
    expect(rising.toReversed().toSorted(order)).toEqual(rising);
  });

  it('needs each symbol once, as the kernel’s package provides it, and no kernel', () => {
    expect(plan(SUSE).rpm?.requires).toEqual([
      'kiln-modules-common >= 3',
      'ksym(default:_printk) = 92997ed8',
      // SUSE's ksym-provides prints CRCs with %lx.
      'ksym(default:module_layout) = abc',
    ]);
    for (const release of ['5.14.0-427.el9.x86_64', '5.14.0-427.el9.x86_64+rt'])
      expect(plan(release).rpm?.requires).toEqual([
        'kiln-modules-common >= 3',
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
      '/usr/lib/depmod.d/cam-era-kmp-default.conf',
      '/usr/lib/kiln-modules/kabi/cam-era-kmp-default',
    ]);
    expect(files.at(-1)?.content).toEqual({
      text: `release ${SUSE}
modules updates/Cam_era
flavour default
vermagic SMP preempt mod_unload modversions
gpl yes
namespaces DMA_BUF
0x92997ed8 _printk
0x00000abc module_layout
`,
    });
    expect(files.at(-2)?.content).toEqual({
      text: 'override camera * weak-updates/Cam_era\noverride camera_core * weak-updates/Cam_era\n',
    });
  });

  it('has its firmware where all kernels look', () => {
    const firmware = digestOf('firmware');
    const { files } = plan(SUSE, {
      files: [{ place: '/lib/firmware/camera/a.bin', digest: firmware, size: 8 }],
    });
    expect(files).toContainEqual({
      place: '/lib/firmware/updates/camera/a.bin',
      content: { blob: firmware },
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
    const symbols = Array.from({ length: 1000 }, (_, at): [string, string] => [
      `_R${at}`.padEnd(511, 'x'),
      '00000001',
    ]);
    const planned = plan(SUSE, { kabi: { ...kabi, symbols } });
    expect(PackagePlan.parse(planned).rpm?.requires).toHaveLength(1001);
  });

  it('is not made of what is built against other sources', () => {
    expect(() => plan(SUSE, { needs: ['spl', 'znvpair'] })).toThrow(
      refusal('conflict', /Cam_era, which is built against spl, znvpair: .*; make an rpm of it$/),
    );
  });

  it('is not made where nobody says what the modules need, nor called after another', () => {
    const { kabi: _, ...bare } = subject;
    expect(() => planPackage('kmp', bare)).toThrow(refusal('conflict', /without what its modules/));
    const { kernel, source } = subject;
    const flavour = { kind: 'flavour', source, flavour: 'default', kernel, revision: 1 } as const;
    expect(() => planPackage('kmp', flavour)).toThrow(refusal('conflict', /none follows one/));
  });
});

describe('what modules need of a kernel', () => {
  const module = (of: Partial<ModuleFile>): ModuleFile => ({
    arch: 'x86_64',
    modinfo: [
      ['name', 'camera'],
      ['license', 'GPL'],
      ['vermagic', `${SUSE} SMP preempt mod_unload modversions `],
    ],
    imports: [],
    exports: [],
    versions: new Map([['module_layout', 0xabc]]),
    ...of,
  });
  const saying = (...pairs: readonly (readonly [string, string])[]): ModuleFile =>
    module({ modinfo: [...module({}).modinfo, ...pairs] });

  it('is read of their bytes', () => {
    const bytes = moduleBytes(
      [
        'name=camera',
        'license=GPL',
        `vermagic=${SUSE} SMP preempt mod_unload modversions `,
        'import_ns=DMA_BUF',
      ],
      { module_layout: 0xabc, _printk: 0x92997ed8 },
    );
    expect(kabiOf([readModuleFile(bytes)])).toEqual(kabi);
  });

  it('is not what another of them exports, but always the layout of modules', () => {
    const core = module({ exports: ['camera_add', 'module_layout'] });
    const user = module({
      imports: ['camera_add'],
      versions: new Map([
        ['module_layout', 0xabc],
        ['camera_add', 1],
      ]),
    });
    expect(kabiOf([core, user]).symbols).toEqual([['module_layout', '00000abc']]);
    const alone = module({ ...user, exports: ['camera_add'] });
    expect(kabiOf([alone]).symbols).toContainEqual(['camera_add', '00000001']);
  });

  it('is what each of them may use', () => {
    const spaces = [
      [
        ['import_ns', 'A'],
        ['import_ns', 'B'],
      ],
      [
        ['import_ns', 'B'],
        ['import_ns', 'C'],
      ],
    ] as const;
    expect(kabiOf(spaces.map((each) => saying(...each)))).toMatchObject({
      isGpl: true,
      namespaces: ['B'],
    });
    const closed = module({ modinfo: [['license', 'Proprietary'], ...module({}).modinfo] });
    expect(kabiOf([module({}), closed]).isGpl).toBe(false);
  });

  it('is one for all of them', () => {
    const other = module({ modinfo: [['vermagic', `${SUSE} SMP mod_unload modversions `]] });
    expect(() => kabiOf([module({}), other])).toThrow(
      refusal('conflict', /whose vermagic is not that of/),
    );
  });

  it.each(['a b', 'a\nRequires: evil', '%(evil)', 'a)', '', '-', 'é'])(
    'cannot be told where a symbol is called %j',
    (symbol) => {
      const versions = new Map([[symbol, 1]]);
      expect(() => kabiOf([module({ versions })])).toThrow(
        refusal('conflict', /one with an odd name; make an rpm of it/),
      );
    },
  );

  it('cannot be told of too many, whatever they are called', () => {
    const versions = new Map(Array.from({ length: SYMBOLS + 1 }, (_, at) => [`-${at}`, 1]));
    expect(() => kabiOf([module({ versions })])).toThrow(
      refusal('conflict', /imports over 8000 symbols/),
    );
  });

  it('has a symbol whatever it is called', () => {
    const versions = new Map([['__proto__', 1]]);
    expect(kabiOf([module({ versions })]).symbols).toEqual([['__proto__', '00000001']]);
  });

  it('cannot be told without CRCs', () => {
    expect(() => kabiOf([module({ versions: new Map() })])).toThrow(
      refusal(
        'conflict',
        /camera\.ko, which has no CRCs .* without CONFIG_MODVERSIONS; make an rpm/,
      ),
    );
    expect(() => kabiOf([module({ imports: ['odd'] })])).toThrow(
      refusal('conflict', /no CRC of the symbol odd that it needs/),
    );
  });
});
