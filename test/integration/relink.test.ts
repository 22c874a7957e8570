import { mkdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import type { Context } from '../../client/command.ts';
import { openHost } from '../../client/host.ts';
import { installAll } from '../../client/install.ts';
import { planLink } from '../../client/plan.ts';
import { listReceipts } from '../../client/receipts.ts';
import { runTransaction } from '../../client/transaction.ts';
import { digestOf } from '../../services/core/digest.ts';
import { fingerprintInputs, fingerprintOf } from '../../services/core/fingerprint.ts';
import type { BuildView } from '../../services/core/protocol.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { mustRun } from '../machine/run.ts';
import { debianKernel, dkmsSource, moduleBytes } from '../unit/samples.ts';

const { release, vermagic } = debianKernel;
const OTHER = '6.1.0-55-amd64';

const built = (version: string): { readonly build: BuildView; readonly bytes: Buffer } => {
  const bytes = moduleBytes(['name=hello', `vermagic=${vermagic}`, `version=${version}`]);
  const inputs = fingerprintInputs(
    {
      source: { ...dkmsSource, version },
      kernel: debianKernel,
      toolchain: digestOf('toolchain'),
      waived: [],
      dependencies: [],
      settings: {},
    },
    digestOf('script'),
  );
  const build: BuildView = {
    id: version,
    fingerprint: fingerprintOf(inputs),
    state: 'succeeded',
    attempt: 1,
    source: { digest: dkmsSource.digest, name: dkmsSource.name, version },
    kernel: { ...debianKernel },
    toolchain: { digest: digestOf('toolchain'), name: 'gcc' },
    inputs: { ...inputs },
    recipe: null,
    modules: [
      { name: 'hello', unsigned: digestOf(bytes), signed: null, size: bytes.length, modinfo: [] },
    ],
    signature: { kind: 'unsigned', reason: 'policy' },
    dependencies: [],
    exclusion: null,
    stale: null,
    failure: null,
    log: null,
    attestation: null,
    timings: null,
    createdAt: 0,
    startedAt: null,
    finishedAt: null,
  };
  return { build, bytes };
};

describe('links to a module set that is replaced', () => {
  it('go in the same transaction: they were proven for other bytes', async () => {
    const host = await openHost(await freshDirectory('relink'));
    for (const each of [release, OTHER]) {
      await mkdir(join(host.root, 'lib/modules', each, 'kernel'), { recursive: true });
      await mustRun('depmod', ['-b', host.root, each]);
    }
    const said: string[] = [];
    const context = {
      progress: { say: (text: string) => said.push(text), step: () => {}, done: () => {} },
    } as unknown as Context;
    const install = async (version: string): Promise<void> => {
      const { build, bytes } = built(version);
      const request = { source: { name: 'hello', version }, kernel: { release } };
      const granted = await installAll(context, host, [{ name: 'hello', release, request }], {
        supply: {
          name: 'x',
          build: async () => ({ build, isCached: true }),
          dependency: async () => build,
          artifact: async () => bytes,
        },
        certificate: null,
        allowUnsigned: true,
        force: false,
        keepDisplaced: true,
        reuse: false,
        wanted: [],
        initramfs: false,
      });
      expect(granted).toMatchObject([{ problem: null }]);
    };
    const link = join(host.root, 'lib/modules', OTHER, 'weak-updates/kiln/hello.ko');

    await install('1.0');
    const [origin] = (await listReceipts(host)).receipts;
    if (origin === undefined) throw new Error('there is no receipt');
    await runTransaction(host, {
      title: 'link',
      changes: planLink(origin, OTHER, digestOf('symbols'), [origin]).changes,
      releases: [],
      images: [],
      check: async () => {},
    });
    await install('1.0');
    expect(await readlink(link)).toMatch(/hello\.ko$/);
    await install('2.0');
    await expect(readlink(link)).rejects.toThrow(/ENOENT/);
    expect((await listReceipts(host)).receipts.map((each) => each.release)).toEqual([release]);
    expect(said).toEqual([expect.stringMatching(/hello for 6\.1\.0-55-amd64 was linked to what/)]);
  });
});
