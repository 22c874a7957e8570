import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { beforeEach, describe, expect, it } from '@jest/globals';
import { openHost, type Host } from '../../client/host/host.ts';
import { receiptChange, type Receipt } from '../../client/installed/receipts.ts';
import { findLink, kernelSymbols, whyNotLinked } from '../../client/installed/weak-updates.ts';
import { digestOf } from '../../services/core/digest.ts';
import { KilnError } from '../../services/core/errors.ts';
import type { CreateBuild, ResolvedView } from '../../services/core/protocol/build.ts';
import { freshDirectory } from '../machine/make-source.ts';

const ORIGIN = '6.1.0-1-amd64';
const RELEASE = '6.1.0-2-amd64';

const receipt: Receipt = {
  name: 'a',
  version: '1.0',
  release: ORIGIN,
  arch: 'x86_64',
  vermagic: ORIGIN,
  build: 'b',
  fingerprint: digestOf('b'),
  inputs: { source: { digest: digestOf('source') } },
  toolchain: { digest: digestOf('toolchain'), name: 'gcc' },
  server: 'x',
  signer: null,
  provenance: null,
  mayLink: true,
  linkedFrom: null,
  provenWith: null,
  files: [],
  modules: [
    {
      name: 'a',
      modname: 'a',
      path: 'updates/kiln/a.ko',
      digest: digestOf('a'),
      module: digestOf('a'),
      unsigned: digestOf('a'),
    },
  ],
  displaced: [],
  dkmsTree: null,
  installedAt: 0,
};

describe('what another kernel of this host has', () => {
  let host: Host;
  const lay = async (path: string, bytes: string | Buffer): Promise<void> => {
    await mkdir(dirname(join(host.root, path)), { recursive: true });
    await writeFile(join(host.root, path), bytes);
  };

  beforeEach(async () => {
    host = await openHost(await freshDirectory('weak-updates'));
    const { path, to } = receiptChange(receipt);
    await lay(path, to as Buffer);
    await lay(`lib/modules/${RELEASE}/modules.dep`, 'kernel/b.ko:\n');
  });

  /** Whether its symbols are asked for, that is, whether there is anything to prove. */
  const isTried = async (
    source: CreateBuild['source'],
    now: string | null,
    unsure: readonly string[] = [],
  ): Promise<boolean> => {
    let isAsked = false;
    const kernel = { release: RELEASE };
    const wish = { name: 'a', release: RELEASE, request: { source, kernel } };
    const view = { source: { digest: digestOf(now ?? ''), name: 'a', version: '1.0' } };
    const service = {
      symvers: async () => {
        isAsked = true;
        return null;
      },
      resolve: async () => {
        if (now === null) throw new KilnError('unreachable', 'no service');
        return [view as ResolvedView];
      },
    };
    expect(await findLink(host, service, wish, unsure)).toBeNull();
    return isAsked;
  };

  it('is tried where it is the source that would be built now', async () => {
    expect(await isTried({ name: 'a' }, 'source')).toBe(true);
    expect(await isTried({ name: 'a', version: '1.0' }, 'source')).toBe(true);
  });

  it('is tried where nobody can say what would be built', async () => {
    expect(await isTried({ name: 'a' }, null)).toBe(true);
  });

  it('is not linked where another version is wanted, or a newer one is there', async () => {
    expect(await isTried({ name: 'a', version: '2.0' }, null)).toBe(false);
    expect(await isTried({ name: 'a' }, 'newer source')).toBe(false);
  });

  it('is not linked where it may be replaced in the same run', async () => {
    expect(await isTried({ name: 'a' }, 'source', [RELEASE, ORIGIN])).toBe(false);
  });

  it('is not linked where the kernel has the module itself', async () => {
    await lay(`lib/modules/${RELEASE}/modules.dep`, 'kernel/a.ko:\n');
    await lay(`lib/modules/${RELEASE}/kernel/a.ko`, 'its own');
    const symbols = { text: '', digest: digestOf('') };
    expect(await whyNotLinked(host, receipt, RELEASE, symbols)).toEqual(['it has a itself']);
  });

  it('is not held against symbols that are damaged', async () => {
    await lay(`lib/modules/${RELEASE}/symvers.gz`, 'no gzip');
    await lay(`lib/modules/${RELEASE}/build/Module.symvers`, 'from the headers');
    const symbols = await kernelSymbols(host, { symvers: async () => null }, RELEASE);
    expect(symbols?.text).toBe('from the headers');
  });
});
