import { describe, expect, it } from '@jest/globals';
import { digestOf, type Digest } from '../../services/core/digest.ts';
import {
  buildIdOf,
  fingerprintInputs,
  fingerprintOf,
  type FingerprintInputs,
  type ResolvedInputs,
} from '../../services/core/build/fingerprint.ts';
import type { Kernel } from '../../services/core/kernel/kernel.ts';
import type { Source } from '../../services/core/source/source.ts';
import { debianKernel, dkmsSource } from './samples.ts';

type Inputs = ResolvedInputs & { readonly script: Digest };

const base: Inputs = {
  source: dkmsSource,
  kernel: debianKernel,
  toolchain: digestOf('toolchain'),
  waived: [],
  dependencies: [],
  settings: {},
  script: digestOf('script'),
};
const inputsOf = ({ script, ...resolved }: Inputs): FingerprintInputs =>
  fingerprintInputs(resolved, script);
const fingerprint = (inputs: Inputs): Digest => fingerprintOf(inputsOf(inputs));
const withSource = (change: Partial<Source>): Inputs => ({
  ...base,
  source: { ...dkmsSource, ...change },
});
const withKernel = (change: Partial<Kernel>): Inputs => ({
  ...base,
  kernel: { ...debianKernel, ...change },
});
const other = digestOf('other');
const zfs = { name: 'zfs', version: '2.1', fingerprint: digestOf('zfs') };
const spl = { name: 'spl', version: '2.1', fingerprint: digestOf('spl') };
const settings = { '/etc/dkms/zfs.conf': 'a', '/etc/zfs': 'b' };

describe('a fingerprint', () => {
  it('is the same for the same inputs', () => {
    expect(fingerprint(structuredClone(base))).toBe(fingerprint(base));
  });

  it('does not depend on the order the inputs were stored in', () => {
    const inputs = inputsOf(base);
    const reversed = Object.fromEntries(Object.entries(inputs).toReversed()) as typeof inputs;
    expect(fingerprintOf(reversed)).toBe(fingerprintOf(inputs));
  });

  it.each<[string, Inputs]>([
    ['source tree', withSource({ tree: other })],
    ['source name', withSource({ name: 'hello2' })],
    ['source version', withSource({ version: '1.1' })],
    ['way of building', withSource({ kind: 'kbuild' })],
    ['kernel tree', withKernel({ digest: other })],
    ['kernel config', withKernel({ configDigest: other })],
    ['Module.symvers', withKernel({ symversDigest: other })],
    ['lack of Module.symvers', withKernel({ symversDigest: null })],
    ['kernel release', withKernel({ release: '6.1.0-57-amd64' })],
    ['compiler', withKernel({ compiler: 'gcc-12 (Debian 12.2.0-15) 12.2.0' })],
    ['toolchain', { ...base, toolchain: other }],
    ['build script', { ...base, script: other }],
    ['waiver', { ...base, waived: ['compiler'] }],
    ['dependency', { ...base, dependencies: [zfs] }],
    ['settings file', { ...base, settings }],
    ['settings file of the source', withSource({ settings })],
  ])('is another with another %s', (_, changed) => {
    expect(fingerprint(changed)).not.toBe(fingerprint(base));
  });

  it.each<[string, Partial<Inputs>, Partial<Inputs>]>([
    ['part waived', { waived: ['compiler'] }, { waived: ['linker'] }],
    ['part waived besides', { waived: ['compiler'] }, { waived: ['compiler', 'linker'] }],
    ['dependency', { dependencies: [zfs] }, { dependencies: [spl] }],
    [
      'build of the same dependency',
      { dependencies: [zfs] },
      { dependencies: [{ ...zfs, fingerprint: other }] },
    ],
    [
      'version of a dependency',
      { dependencies: [zfs] },
      { dependencies: [{ ...zfs, version: '2.2' }] },
    ],
    ['dependency besides', { dependencies: [zfs] }, { dependencies: [zfs, spl] }],
    ['text of a settings file', { settings: { '/etc/a': 'a' } }, { settings: { '/etc/a': 'b' } }],
    ['place of a settings file', { settings: { '/etc/a': 'a' } }, { settings: { '/etc/b': 'a' } }],
    [
      'settings file besides',
      { settings: { '/etc/a': 'a' } },
      { settings: { '/etc/a': 'a', '/etc/b': 'a' } },
    ],
  ])('is another with another %s', (_, one, another) => {
    expect(fingerprint({ ...base, ...another })).not.toBe(fingerprint({ ...base, ...one }));
  });

  it('does not depend on the order that parts were waived or settings given in', () => {
    const one: Inputs = { ...base, waived: ['rustc', 'compiler'], settings };
    const same: Inputs = {
      ...base,
      waived: ['compiler', 'rustc'],
      settings: Object.fromEntries(Object.entries(settings).toReversed()),
    };
    expect(fingerprint(same)).toBe(fingerprint(one));
  });

  it('takes the request’s settings over the source’s, whichever they come from', () => {
    const source = { ...dkmsSource, settings: { '/etc/a': 'source', '/etc/b': 'source' } };
    const inputs = inputsOf({ ...base, source, settings: { '/etc/a': 'request' } });
    expect(inputs.settings).toEqual({
      '/etc/a': digestOf('request'),
      '/etc/b': digestOf('source'),
    });
    expect(fingerprintOf(inputs)).toBe(
      fingerprint({ ...base, settings: { '/etc/a': 'request', '/etc/b': 'source' } }),
    );
  });

  it('leaves alone what only leads to a toolchain or a time to build', () => {
    const changed = withSource({ needs: ['libxtables-dev'], autoinstall: true });
    expect(fingerprint(changed)).toBe(fingerprint(base));
  });

  it('covers the environment (no time of day, the kernel’s own compiler as CC) and the way of building', () => {
    const { environment, recipe } = inputsOf(base);
    expect(environment).toMatchObject({
      CC: 'gcc-12',
      SOURCE_DATE_EPOCH: '1000000000',
      KBUILD_BUILD_TIMESTAMP: '@1000000000',
    });
    expect(recipe).toEqual({ from: 'dkms.conf', directory: '/var/lib/dkms/hello/1.0/build' });
    expect(inputsOf({ ...base, dependencies: [zfs] }).environment).toHaveProperty(
      'KBUILD_EXTRA_SYMBOLS',
    );
  });

  it('names a build by its first 24 digits', () => {
    expect(buildIdOf(digestOf('abc'))).toBe('ba7816bf8f01cfea414140de');
  });
});
