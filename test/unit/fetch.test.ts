import { describe, expect, it } from '@jest/globals';
import { fetchBuilds, type Fetched } from '../../client/install/fetch.ts';
import type { Supply } from '../../client/install/supply.ts';
import { digestOf } from '../../services/core/digest.ts';
import {
  buildIdOf,
  fingerprintInputs,
  fingerprintOf,
} from '../../services/core/build/fingerprint.ts';
import type { BuildView, CreateBuild } from '../../services/core/protocol/build.ts';
import { builtView, debianKernel, dkmsSource, moduleBytes, refusal } from './samples.ts';

const inputsOf = (name: string, needs: readonly BuildView[]): BuildView['inputs'] =>
  JSON.parse(
    JSON.stringify(
      fingerprintInputs(
        {
          source: { ...dkmsSource, name },
          kernel: debianKernel,
          toolchain: digestOf('toolchain'),
          waived: [],
          dependencies: needs.map(({ source: { name: need, version }, fingerprint }) => ({
            name: need,
            version,
            fingerprint,
          })),
          settings: { '/etc/dkms/a.conf': 'a' },
        },
        digestOf('script'),
      ),
    ),
  ) as BuildView['inputs'];

const { vermagic, release } = debianKernel;
const bytes = moduleBytes(['name=hello', `vermagic=${vermagic}`, 'license=GPL']);

const build = (
  name: string,
  more: Partial<BuildView> = {},
  ...needs: readonly BuildView[]
): BuildView => {
  const inputs = inputsOf(name, needs);
  const fingerprint = fingerprintOf(inputs as never);
  return builtView({
    id: buildIdOf(fingerprint),
    fingerprint,
    source: { digest: dkmsSource.digest, name, version: dkmsSource.version },
    kernel: {
      digest: debianKernel.digest,
      release,
      arch: debianKernel.arch,
      compiler: debianKernel.compiler,
      vermagic,
    },
    inputs,
    dependencies: needs.map(({ id }) => id),
    modules: [
      { name: 'hello', unsigned: digestOf(bytes), signed: null, size: bytes.length, modinfo: [] },
    ],
    ...more,
  });
};

const supply = (...builds: readonly BuildView[]): Supply => ({
  name: 'hostile',
  build: async () => ({ build: builds[0] as BuildView, isCached: true }),
  dependency: async (id) => builds.find((each) => each.id === id) ?? (builds.at(-1) as BuildView),
  withdrawals: async () => [],
  artifact: async () => bytes,
});
const asked: CreateBuild = { source: { name: 'hello', version: '1.0' }, kernel: { release } };
const fetch = (request: CreateBuild, ...builds: BuildView[]): Promise<readonly Fetched[]> =>
  fetchBuilds(supply(...builds), request, { certificate: null, allowUnsigned: true });

describe('what a service or a bundle sends', () => {
  it('is taken where it is what was asked for', async () => {
    expect(await fetch(asked, build('hello'))).toMatchObject([{ modules: [{ name: 'hello' }] }]);
    const other = build('other');
    expect(await fetch(asked, build('hello', {}, other), other)).toMatchObject([
      { build: { source: { name: 'other' } } },
      { build: { source: { name: 'hello' } } },
    ]);
  });

  const hello = build('hello');
  it.each<[string, CreateBuild, BuildView[], RegExp]>([
    ['another source', asked, [build('other')], /not asked for/],
    [
      'another version',
      { ...asked, source: { name: 'hello', version: '2.0' } },
      [hello],
      /not asked/,
    ],
    ['another kernel', { ...asked, kernel: { release: '6.1.0-57-amd64' } }, [hello], /not asked/],
    [
      'another digest',
      { ...asked, source: { digest: digestOf('another') } },
      [hello],
      /not asked for/,
    ],
    [
      'a source under another name',
      asked,
      [{ ...build('other'), source: hello.source }],
      /other inputs/,
    ],
    [
      'other inputs',
      asked,
      [{ ...hello, inputs: { ...hello.inputs, waived: ['pahole'] } }],
      /inputs/,
    ],
    ['malformed inputs', asked, [{ ...hello, inputs: { a: 0.5 } }], /inputs/],
    [
      'a dependency more than its fingerprint covers',
      asked,
      [{ ...hello, dependencies: ['0123'] }],
      /other inputs/,
    ],
    [
      'a dependency less',
      asked,
      [{ ...build('hello', {}, build('spl')), dependencies: [] }],
      /other inputs/,
    ],
    [
      'another dependency than was named',
      asked,
      [build('hello', {}, build('spl')), build('other')],
      /another build than .* was sent for the dependency spl/,
    ],
    [
      'another dependency under that one’s name',
      asked,
      [
        build('hello', {}, build('spl')),
        { ...build('other'), id: build('spl').id, source: { ...hello.source, name: 'spl' } },
      ],
      /another build than .* was sent for the dependency spl/,
    ],
    [
      'a dependency for another kernel',
      asked,
      [
        build('hello', {}, build('spl')),
        build('spl', { kernel: { ...hello.kernel, digest: digestOf('another kernel') } }),
      ],
      /another build than .* was sent for the dependency spl/,
    ],
    [
      'one module twice',
      asked,
      [{ ...hello, modules: [...hello.modules, ...hello.modules] }],
      /or twice/,
    ],
    [
      'a module that calls itself a path',
      asked,
      [
        {
          ...hello,
          modules: hello.modules.map((each) => ({ ...each, modinfo: [['name', '../x']] })),
        },
      ],
      /impossible name/,
    ],
    ['no modules', asked, [{ ...hello, modules: [] }], /no modules/],
  ])('is refused where it is %s', async (_, request, builds, words) => {
    await expect(fetch(request, ...builds)).rejects.toThrow(refusal('unverified', words));
  });
});
