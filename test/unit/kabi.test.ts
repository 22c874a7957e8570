import { describe, expect, it } from '@jest/globals';
import { checkImports, parseSymvers, type Symvers } from '../../services/core/module/kabi.ts';
import type { ModuleFile } from '../../services/core/module/module-file.ts';
import { refusal } from './samples.ts';

const kernel: Symvers = new Map([
  ['printk', 0x11],
  ['kfree', 0x22],
]);
const module = (
  imports: readonly string[],
  versions: Readonly<Record<string, number>>,
): ModuleFile => ({
  arch: 'x86_64',
  modinfo: [['name', 'hello']],
  imports,
  exports: [],
  versions: new Map(Object.entries(versions)),
});

describe('a Module.symvers', () => {
  it('is read as CRCs by symbol; malformed lines are left out', () => {
    const text =
      '0x4c9d28b0\tphys_base\tvmlinux\tEXPORT_SYMBOL\t\n0x00000000\tbare\ta/b\tEXPORT_SYMBOL_GPL\nno line\n0xzz\tx\n0x1\t\n';
    expect(parseSymvers(text)).toEqual(
      new Map([
        ['phys_base', 0x4c9d28b0],
        ['bare', 0],
      ]),
    );
  });
});

describe('a module’s imports', () => {
  it('are all right where each is exported with the CRC it was built against', () => {
    const good = module(['printk', 'own'], { printk: 0x11, module_layout: 0x99 });
    expect(() => checkImports(good, [kernel, new Map([['own', 0]])])).not.toThrow();
  });

  it.each<[string, ModuleFile, RegExp]>([
    ['unknown', module(['gone'], {}), /hello needs symbols .*exports: gone; .*--depends/],
    [
      'of another version',
      module(['printk'], { printk: 0x12 }),
      /built against other versions \(CRCs\) of printk/,
    ],
    ['without a version', module(['kfree'], {}), /has no version \(CRC\) for kfree/],
    ['many', module(['a', 'b', 'c', 'd', 'e', 'f', 'g'], {}), /exports: a, b, c, d, e and 2 more/],
  ])('are refused where one is %s', (_, wrong, words) => {
    expect(() => checkImports(wrong, [kernel])).toThrow(refusal('unverified', words));
  });

  it('have the kernel’s CRC, whatever the build says of the same symbol', () => {
    const planted = module(['printk'], { printk: 0x66 });
    expect(() => checkImports(planted, [kernel, new Map([['printk', 0x66]])])).toThrow(
      refusal('unverified', /other versions \(CRCs\) of printk/),
    );
  });

  it('need no version where the kernel keeps none', () => {
    expect(() => checkImports(module(['x'], {}), [new Map([['x', 0]])])).not.toThrow();
  });
});
