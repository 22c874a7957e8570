import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import { digestOf } from '../../services/core/digest.ts';
import { planPackage } from '../../services/core/packages/plan-package.ts';
import type { PackagePlan } from '../../services/core/packages/plan.ts';
import { checkPackage } from '../../services/storage/check-package.ts';
import { packRpm } from '../machine/pack-plan.ts';
import { mustRun } from '../machine/run.ts';
import { refusal } from '../unit/samples.ts';

/** A package that tracks the kABI needs the symbols that were planned, and no others: real packages, made by rpmbuild. */

const KERNELS = [
  ['ksym', '6.4.0-150600.23.42-default', 'ksym(default:_printk) = 92997ed8'],
  ['kernel', '5.14.0-427.el9.x86_64', 'kernel(_printk) = 0x92997ed8'],
] as const;
const planOf = (release: string): PackagePlan =>
  planPackage('kmp', {
    kind: 'modules',
    build: '0123456789abcdef01234567',
    source: { name: 'camera', version: '1.0' },
    kernel: { release, arch: 'x86_64', version: null },
    modules: [
      {
        name: 'camera',
        signed: digestOf('module'),
        size: 6,
        license: 'GPL',
      },
    ],
    files: [{ place: '/lib/firmware/camera/a.bin', digest: digestOf('firmware'), size: 8 }],
    needs: [],
    attestation: { digest: digestOf('attestation'), size: 11 },
    kabi: {
      symbols: [
        ['_printk', '92997ed8'],
        ['module_layout', '00000abc'],
        ['odd.name', '00000000'],
      ],
      vermagic: 'SMP mod_unload modversions',
      isGpl: true,
      namespaces: [],
    },
    revision: 1,
  });
const read = async (digest: string): Promise<string> =>
  ['module', 'firmware', 'attestation'].find((bytes) => digestOf(bytes) === digest) ?? '';
const check = async (file: string, plan: PackagePlan): Promise<void> =>
  checkPackage(await readFile(file), plan, 1024 ** 2, async () => Buffer.alloc(0));
/** Changes a text of what is packed. */
const changed =
  (path: string, from: string, to: string) =>
  async (home: string): Promise<void> => {
    const text = await readFile(join(home, path), 'utf8');
    expect(text).toContain(from);
    await writeFile(join(home, path), text.replace(from, to));
  };

describe.each(KERNELS)('a package that needs %s(…)', (_, release, needed) => {
  const plan = planOf(release);
  const line = `Requires: ${needed}\n`;

  it('passes where it is what was planned, and says so to rpm', async () => {
    const file = await packRpm(plan, read);
    await expect(check(file, plan)).resolves.toBeUndefined();
    const requires = (await mustRun('rpm', ['-qp', '--requires', file])).split('\n');
    expect(requires).toEqual(expect.arrayContaining([needed, 'kiln-modules-common >= 3']));
    expect(requires.filter((each) => each.startsWith('kernel-'))).toEqual([]);
  });

  it.each([
    ['lacks a symbol', line, ''],
    ['needs another CRC of a symbol', needed, needed.replace('92997ed8', '92997ed9')],
    ['needs no certain CRC of a symbol', line, line.replace(/ = .*/, '')],
    ['needs at least a CRC', needed, needed.replace(' = ', ' >= ')],
    ['needs a symbol more', line, `${line}${line.replace('_printk', 'evil')}`],
  ])('is refused where it %s', async (__, from, to) => {
    const file = await packRpm(plan, read, changed('spec', from, to));
    await expect(check(file, plan)).rejects.toThrow(
      refusal('unverified', /requires something else than planned/),
    );
  });

  it('is refused with another list of symbols for the host', async () => {
    const list = `files/usr/lib/kiln-modules/kabi/${plan.name}`;
    const file = await packRpm(plan, read, changed(list, '0x92997ed8 _printk\n', ''));
    await expect(check(file, plan)).rejects.toThrow(
      refusal('unverified', /has other bytes in .*\/kabi\/.* than planned/),
    );
  });
});
