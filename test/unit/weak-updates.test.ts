import { describe, expect, it } from '@jest/globals';
import {
  flavourOf,
  parseExportTerms,
  whyNoWeakUpdate,
  type WeakUpdateTarget,
} from '../../services/core/module/weak-updates.ts';
import type { ModuleFile } from '../../services/core/module/module-file.ts';

const TRAITS = 'SMP preempt mod_unload modversions';

const module: ModuleFile = {
  arch: 'x86_64',
  modinfo: [
    ['license', 'GPL'],
    ['import_ns', 'DMA_BUF'],
    ['vermagic', `6.1.0-55-amd64 ${TRAITS} `],
    ['name', 'hello'],
  ],
  imports: ['_printk', 'dma_buf_get'],
  exports: [],
  versions: new Map([
    ['module_layout', 1],
    ['_printk', 2],
    ['dma_buf_get', 3],
  ]),
};

const target: WeakUpdateTarget = {
  release: '6.1.0-56-amd64',
  arch: 'x86_64',
  vermagic: `6.1.0-56-amd64 ${TRAITS}`,
  exporters: [
    new Map([
      ['module_layout', 1],
      ['_printk', 2],
      ['dma_buf_get', 3],
      ['bare', 0],
    ]),
  ],
  terms: new Map([['dma_buf_get', { namespace: 'DMA_BUF', isGplOnly: true }]]),
};

const withModinfo = (key: string, value: string): ModuleFile => ({
  ...module,
  modinfo: [...module.modinfo.filter(([name]) => name !== key), [key, value]],
});

const withCrc = (symbol: string, crc: number): WeakUpdateTarget => ({
  ...target,
  exporters: [new Map([...(target.exporters[0] ?? []), [symbol, crc]])],
});

describe('a module on another kernel', () => {
  it('is proven to fit where all it imports is the same', () => {
    expect(whyNoWeakUpdate(module, target)).toBeNull();
  });

  it('may need what goes with it', () => {
    const two = { ...module, imports: [...module.imports, 'own'] };
    const built = { ...two, versions: new Map([...two.versions, ['own', 9]]) };
    expect(whyNoWeakUpdate(built, target)).toEqual(['it does not export own']);
    const exporters = [...target.exporters, new Map([['own', 9]])];
    expect(whyNoWeakUpdate(built, { ...target, exporters })).toBeNull();
  });

  it.each<[string, ModuleFile, WeakUpdateTarget, readonly string[]]>([
    [
      'a changed symbol',
      module,
      withCrc('_printk', 7),
      ['it has other versions (CRCs) of _printk'],
    ],
    [
      'another struct module',
      module,
      withCrc('module_layout', 7),
      ['it has other versions (CRCs) of module_layout'],
    ],
    [
      'a symbol that is gone',
      { ...module, imports: ['gone'] },
      target,
      ['it does not export gone'],
    ],
    [
      'a symbol without a CRC',
      { ...module, imports: ['bare'] },
      target,
      ['no version (CRC) is known of bare'],
    ],
    [
      'a namespace that is not imported',
      withModinfo('import_ns', 'OTHER'),
      target,
      ['the module does not import the namespace of dma_buf_get'],
    ],
    [
      'another license',
      withModinfo('license', 'Proprietary'),
      target,
      ['it exports to GPL modules alone dma_buf_get'],
    ],
    [
      'another arch',
      { ...module, arch: 'aarch64' },
      target,
      ['it is for x86_64, the module for aarch64'],
    ],
    [
      'another flavour',
      withModinfo('vermagic', `6.1.0-55-cloud-amd64 ${TRAITS}`),
      target,
      ['its flavour is amd64, the module’s cloud-amd64'],
    ],
    [
      'another vermagic',
      withModinfo('vermagic', '6.1.0-55-amd64 SMP mod_unload modversions'),
      target,
      [
        'it wants vermagic "SMP preempt mod_unload modversions", the module has "SMP mod_unload modversions"',
      ],
    ],
    [
      'no CRCs at all',
      withModinfo('vermagic', '6.1.0-55-amd64 SMP'),
      { ...target, vermagic: '6.1.0-56-amd64 SMP' },
      ['without CONFIG_MODVERSIONS there is nothing to compare'],
    ],
  ])('is refused for %s', (_, wrong, kernel, reasons) => {
    expect(whyNoWeakUpdate(wrong, kernel)).toEqual(reasons);
  });

  it('is refused in few words, however much is wrong', () => {
    const many = { ...module, imports: Array.from({ length: 1000 }, (_, at) => `symbol_${at}`) };
    expect(whyNoWeakUpdate(many, target)).toEqual([
      'it does not export symbol_0, symbol_1, symbol_2, symbol_3, symbol_4 and 995 more',
    ]);
  });
});

describe('a kernel’s flavour', () => {
  it.each([
    ['6.1.0-56-amd64', 'amd64'],
    ['6.1.0-56-cloud-amd64', 'cloud-amd64'],
    ['6.1.0-56-rt-amd64', 'rt-amd64'],
    ['6.1.0-0.deb11.21-amd64', 'amd64'],
    ['6.12.117+deb12-amd64', 'amd64'],
    ['6.17-rc3-amd64', 'amd64'],
    ['5.15.0-1052-aws', 'aws'],
    ['6.4.0-150600.21-default', 'default'],
    ['5.14.0-362.el9.x86_64', 'el9.x86_64'],
    ['5.14.0-427.13.1.el9_4.x86_64', 'el9.x86_64'],
    ['5.14.0-427.13.1.el9_4.x86_64+rt', 'el9.x86_64+rt'],
    ['5.4.17-2136.300.7.el8uek.x86_64', 'el8uek.x86_64'],
    ['6.6.1', ''],
  ])('of %s is %j', (release, flavour) => {
    expect(flavourOf(release)).toBe(flavour);
  });
});

describe('the terms of exports', () => {
  it('are read from a Module.symvers of any age', () => {
    const text = [
      '0x1\tfree\tvmlinux\tEXPORT_SYMBOL\t',
      '0x2\tgpl\tvmlinux\tEXPORT_SYMBOL_GPL\t',
      '0x3\tspaced\tdrivers/a\tEXPORT_SYMBOL\tDMA_BUF',
      '0x4\told\tUSB_STORAGE\tdrivers/usb\tEXPORT_SYMBOL_GPL',
      '0x5\tolder\tvmlinux\tEXPORT_SYMBOL_GPL',
      'no line',
      `0x6\t${'x'.repeat(2000)}\tvmlinux\tEXPORT_SYMBOL_GPL\t`,
    ].join('\n');
    expect([...parseExportTerms(text)]).toEqual([
      ['gpl', { namespace: '', isGplOnly: true }],
      ['spaced', { namespace: 'DMA_BUF', isGplOnly: false }],
      ['old', { namespace: 'USB_STORAGE', isGplOnly: true }],
      ['older', { namespace: '', isGplOnly: true }],
    ]);
  });
});
