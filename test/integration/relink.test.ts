import { mkdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import type { Context } from '../../client/command.ts';
import { openHost } from '../../client/host/host.ts';
import { planLink } from '../../client/install/plan.ts';
import { listReceipts } from '../../client/installed/receipts.ts';
import { runTransaction } from '../../client/transaction/transaction.ts';
import { digestOf } from '../../services/core/digest.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { mustRun } from '../machine/run.ts';
import { debianKernel } from '../unit/samples.ts';
import { installBuilt } from './built.ts';

const { release } = debianKernel;
const OTHER = '6.1.0-55-amd64';

describe('links to a module set that is replaced', () => {
  it('go in the same transaction: they were proven for other bytes', async () => {
    const host = await openHost(await freshDirectory('relink'));
    for (const each of [release, OTHER]) {
      await mkdir(join(host.root, 'lib/modules', each, 'kernel'), { recursive: true });
      await mustRun('depmod', ['-b', host.root, each]);
    }
    const said: string[] = [];
    const context = {
      config: { weakUpdates: false },
      progress: { say: (text: string) => said.push(text), step: () => {}, done: () => {} },
    } as unknown as Context;
    const install = (version: string): Promise<void> => installBuilt(context, host, version);
    const link = join(host.root, 'lib/modules', OTHER, 'weak-updates/kiln/hello.ko');

    await install('1.0');
    const [origin] = (await listReceipts(host)).receipts;
    if (origin === undefined) throw new Error('there is no receipt');
    await runTransaction(host, {
      title: 'link',
      changes: planLink(origin, OTHER, digestOf('symbols'), [origin]).changes,
      releases: [],
      images: [],
    });
    await install('1.0');
    expect(await readlink(link)).toMatch(/hello\.ko$/);
    await install('2.0');
    await expect(readlink(link)).rejects.toThrow(/ENOENT/);
    expect((await listReceipts(host)).receipts.map((each) => each.release)).toEqual([release]);
    expect(said).toEqual([expect.stringMatching(/hello for 6\.1\.0-55-amd64 was linked to what/)]);
  });
});
