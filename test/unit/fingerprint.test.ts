import { describe, expect, it } from '@jest/globals';
import { digestOf, type Digest } from '../../services/core/digest.ts';
import { buildIdOf, fingerprintInputs, fingerprintOf } from '../../services/core/fingerprint.ts';
import type { Kernel } from '../../services/core/kernel.ts';
import type { Source } from '../../services/core/source.ts';
import { debianKernel, dkmsSource } from './samples.ts';

interface Inputs {
  readonly source: Source;
  readonly kernel: Kernel;
  readonly toolchain: Digest;
  readonly script: Digest;
}

const base: Inputs = {
  source: dkmsSource,
  kernel: debianKernel,
  toolchain: digestOf('toolchain'),
  script: digestOf('script'),
};
const fingerprint = ({ source, kernel, toolchain, script }: Inputs): Digest =>
  fingerprintOf(fingerprintInputs(source, kernel, toolchain, script));
const withSource = (change: Partial<Source>): Inputs => ({
  ...base,
  source: { ...dkmsSource, ...change },
});
const withKernel = (change: Partial<Kernel>): Inputs => ({
  ...base,
  kernel: { ...debianKernel, ...change },
});
const other = digestOf('other');

describe('a fingerprint', () => {
  it('is the same for the same inputs', () => {
    expect(fingerprint(structuredClone(base))).toBe(fingerprint(base));
  });

  it('does not depend on the order the inputs were stored in', () => {
    const inputs = fingerprintInputs(base.source, base.kernel, base.toolchain, base.script);
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
  ])('is another with another %s', (_, changed) => {
    expect(fingerprint(changed)).not.toBe(fingerprint(base));
  });

  it('covers the environment (no time of day, the kernel’s own compiler as CC) and the way of building', () => {
    const { environment, recipe } = fingerprintInputs(
      base.source,
      base.kernel,
      base.toolchain,
      base.script,
    );
    expect(environment).toMatchObject({
      CC: 'gcc-12',
      SOURCE_DATE_EPOCH: '1000000000',
      KBUILD_BUILD_TIMESTAMP: '@1000000000',
    });
    expect(recipe).toEqual({ from: 'dkms.conf', directory: '/var/lib/dkms/hello/1.0/build' });
  });

  it('names a build by its first 24 digits', () => {
    expect(buildIdOf(digestOf('abc'))).toBe('ba7816bf8f01cfea414140de');
  });
});
