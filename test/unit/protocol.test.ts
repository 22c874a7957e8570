import { describe, expect, it } from '@jest/globals';
import { digestOf } from '../../services/core/digest.ts';
import { CreateBuild } from '../../services/core/protocol/build.ts';
import { CreateSource, SourceView } from '../../services/core/protocol/source.ts';

describe('a source from the wire', () => {
  const view = {
    digest: digestOf('source'),
    tree: digestOf('tree'),
    name: 'v4l2loopback',
    version: '0.12.7',
    kind: 'dkms',
    autoinstall: true,
    depends: ['zfs'],
    needs: ['libxtables-dev'],
    settings: { '/etc/dkms/a.conf': 'a' },
    files: { '/lib/firmware/a.bin': digestOf('a') },
    commit: null,
    trust: 'admin',
    madeBy: { id: 'token', name: 'ci' },
    withdrawn: null,
    createdAt: 0,
  };

  it('is taken by a client with an ordinary name', () => {
    expect(SourceView.safeParse(view).success).toBe(true);
  });

  it.each([
    { name: '../../etc/docker/daemon' },
    { name: '/etc/x' },
    { version: '1/../..' },
    { name: '' },
  ])('is not taken with %j, as it becomes part of paths on a host', (odd) => {
    expect(SourceView.safeParse({ ...view, ...odd }).success).toBe(false);
  });
});

describe('a request for a build', () => {
  const named = { source: { name: 'hello' }, kernel: { release: '6.1.0-56-amd64' } };

  it('waives nothing and sets nothing where it does not say so', () => {
    expect(CreateBuild.parse(named)).toMatchObject({ waive: [], settings: {}, retry: false });
  });

  it('may waive each part of the compiler contract, and nothing else', () => {
    const waive = ['compiler', 'linker', 'assembler', 'pahole', 'rustc'];
    expect(CreateBuild.parse({ ...named, waive }).waive).toEqual(waive);
    expect(CreateBuild.safeParse({ ...named, waive: ['signature'] }).success).toBe(false);
    expect(CreateBuild.safeParse({ ...named, waive: 'compiler' }).success).toBe(false);
  });
});

describe('a source to be made', () => {
  const least = { blob: digestOf('blob') };

  it('may say what it depends on, needs, sets and was checked out from', () => {
    const full = {
      ...least,
      depends: ['zfs'],
      needs: ['libxtables-dev', 'g++-12'],
      settings: { '/etc/dkms/a.conf': '' },
      commit: 'a'.repeat(40),
    };
    expect(CreateSource.parse(full)).toEqual(full);
    expect(CreateSource.parse(least)).toEqual(least);
  });

  it.each([
    { depends: ['../zfs'] },
    { depends: ['zfs/2.1'] },
    { depends: [''] },
    { needs: ['-o=x'] },
    { needs: ['Libelf'] },
    { needs: ['a b'] },
    { needs: ['libelf-dev=1'] },
    { settings: { '/etc/a': 1 } },
    { commit: 'main' },
    { commit: 'A'.repeat(40) },
  ])('is refused with %j', (odd) => {
    expect(CreateSource.safeParse({ ...least, ...odd }).success).toBe(false);
  });
});
