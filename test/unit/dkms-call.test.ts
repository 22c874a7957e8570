import { describe, expect, it } from '@jest/globals';
import { readCall, type DkmsCall } from '../../client/dkms/call.ts';
import { DkmsEnd } from '../../client/dkms/end.ts';

const read = (...args: string[]): DkmsCall => readCall(args, '/nowhere', () => {});

describe('a command line of dkms', () => {
  it.each<[string, string[], Partial<DkmsCall>]>([
    [
      'options apart',
      ['build', '-m', 'a', '-v', '1.0', '-k', '6.1'],
      { verb: 'build', module: 'a', version: '1.0', kernels: ['6.1'] },
    ],
    [
      'a module with its version',
      ['install', 'a/1.0'],
      { verb: 'install', module: 'a', version: '1.0' },
    ],
    ['the same behind -m', ['add', '-m', 'a/1.0'], { module: 'a', version: '1.0' }],
    [
      'values behind =',
      ['status', '--kernelver=6.1', '--module=a'],
      { kernels: ['6.1'], module: 'a' },
    ],
    [
      'a kernel with its architecture',
      ['build', '-k', '6.1/aarch64'],
      { kernels: ['6.1'], arches: ['aarch64'] },
    ],
    ['several kernels', ['build', '-k', '6.1', '-k', '6.12'], { kernels: ['6.1', '6.12'] }],
    [
      'options before the verb',
      ['--force', '--all', 'remove', 'a/1'],
      { verb: 'remove', force: true, all: true },
    ],
    [
      'places',
      ['status', '--dkmstree', '/t', '--sourcetree=/s', '--installtree', '/i'],
      { dkmsTree: '/t', sourceHome: '/s', installTree: '/i' },
    ],
    [
      'what is accepted and has no meaning here',
      ['build', 'a/1', '-j', '4', '--verbose'],
      { module: 'a', isVerbose: true },
    ],
    ['nothing', [], { verb: null, wants: 'work' }],
    ['a question for its version', ['--version'], { wants: 'version' }],
  ])('may have %s', (_, args, expected) => {
    expect(read(...args)).toMatchObject(expected);
  });

  it.each<[string, string[], number]>([
    ['an unknown option', ['build', '--fast'], 2],
    ['two verbs', ['build', 'install'], 4],
    ['a kernel and all', ['build', '-k', '6.1', '--all'], 2],
    ['an architecture and all', ['build', '-a', 'x86_64', '--all'], 3],
    ['more architectures than kernels', ['build', '-a', 'x', '-a', 'y', '-k', '6.1'], 1],
    ['a module that is a path', ['remove', '-m', '../..', '-v', '1'], 1],
    ['a version that is a path', ['remove', 'a/../..'], 1],
    ['a kernel that is a path', ['build', 'a/1', '-k', '..'], 1],
    ['an architecture that is a path', ['build', 'a/1', '-k', '6.1', '-a', '../x'], 1],
    ['binaries only and sources only', ['mktarball', '--binaries-only', '--source-only'], 8],
  ])('with %s ends as dkms ends', (_, args, status) => {
    const end = ((): unknown => {
      try {
        return read(...args);
      } catch (error) {
        return error;
      }
    })();
    expect(end).toBeInstanceOf(DkmsEnd);
    expect((end as DkmsEnd).status).toBe(status);
  });

  it('names what dkms has given up, and goes on', () => {
    const said: string[] = [];
    expect(readCall(['build', '--no-initrd', 'a/1'], '/', (line) => said.push(line)).module).toBe(
      'a',
    );
    expect(said).toEqual(['Deprecated feature: --no-initrd']);
  });

  it('names nothing by a path that has no dkms.conf: what lacks a name is told by its verb', () => {
    const call = readCall(['add', '/nowhere/at/all'], '/', () => {});
    expect([call.module, call.version]).toEqual(['', '']);
  });
});
