import { describe, expect, it } from '@jest/globals';
import { isHeaderPart, newestHeaders } from '../../services/core/kernel/archive.ts';

describe('the newest headers', () => {
  it('are the last of each flavour', () => {
    const headers = String.raw`linux-headers-(?<release>6\.1\.0-\d+-(?<flavour>amd64|cloud-amd64))`;
    const names = ['9-amd64', '9-cloud-amd64', '9-rt-amd64', '44-amd64', '44-amd64-dbg'];
    expect(
      newestHeaders(
        { headers },
        names.map((name) => `linux-headers-6.1.0-${name}`),
      ),
    ).toEqual([
      { name: 'linux-headers-6.1.0-44-amd64', release: '6.1.0-44-amd64', flavour: 'amd64' },
      {
        name: 'linux-headers-6.1.0-9-cloud-amd64',
        release: '6.1.0-9-cloud-amd64',
        flavour: 'cloud-amd64',
      },
    ]);
  });

  it('are of a release with its flavour, where that is only in the package’s name', () => {
    const headers = String.raw`kernel-(?<flavour>default|azure)-devel-(?<release>[\d.]+-[\d.]+)\.\d+\.x86_64`;
    const name = 'kernel-default-devel-6.4.0-150600.23.42.1.x86_64';
    const release = '6.4.0-150600.23.42-default';
    expect(newestHeaders({ headers }, [name])).toEqual([{ name, release, flavour: 'default' }]);
  });
});

describe('what headers stand on', () => {
  it.each([
    'linux-headers-6.1.0-44-common',
    'linux-kbuild-6.1',
    'linux-headers-6.8.0-40',
    'linux-hwe-6.8-headers-6.8.0-40',
    'linux-aws-headers-6.8.0-1010',
    'kernel-devel',
    'kernel-devel-6.4.0-150600.23.42.1.noarch',
    'kernel-default-devel',
  ])('is %s', (name) => {
    expect(isHeaderPart(name)).toBe(true);
  });
  it.each([
    'libc6',
    'linux-compiler-gcc-12-x86',
    'linux-image-6.12.38+deb13-amd64',
    'linux-libc-dev',
    'kernel-macros',
    'elfutils-libelf-devel',
    'openssl-devel',
  ])('is not %s', (name) => {
    expect(isHeaderPart(name)).toBe(false);
  });
});
