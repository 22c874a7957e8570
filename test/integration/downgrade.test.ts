import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from '@jest/globals';
import type { Context } from '../../client/command.ts';
import { openHost, type Host } from '../../client/host/host.ts';
import { listReceipts } from '../../client/installed/receipts.ts';
import { standings, markWithdrawn } from '../../client/installed/standing.ts';
import { askWithdrawals } from '../../client/installed/withdrawn.ts';
import type { WithdrawalView } from '../../services/core/protocol/withdrawal.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { mustRun } from '../machine/run.ts';
import { debianKernel, dkmsSource } from '../unit/samples.ts';
import { askForBuilt, built, installBuilt } from './built.ts';

const { release } = debianKernel;
const context = {
  config: { weakUpdates: false },
  progress: { say: () => {}, step: () => {}, done: () => {} },
} as unknown as Context;
const withdrawal: WithdrawalView = {
  kind: 'source',
  id: dkmsSource.digest,
  name: 'hello/2.0',
  reason: 'it eats disks',
  madeBy: { id: 'x', name: 'admin' },
  createdAt: 1,
};

describe('a host', () => {
  let host: Host;
  beforeEach(async () => {
    host = await openHost(await freshDirectory('downgrade'));
    await mkdir(join(host.root, 'lib/modules', release, 'kernel'), { recursive: true });
    await mustRun('depmod', ['-b', host.root, release]);
  });
  const version = async (): Promise<string | undefined> =>
    (await listReceipts(host)).receipts[0]?.version;

  it('takes no older version than it has, unless a person says so', async () => {
    await installBuilt(context, host, '1.10');
    expect(await askForBuilt(context, host, '1.9')).toMatchObject([
      {
        problem: {
          code: 'conflict',
          message: `hello/1.9 is older than hello/1.10, which is here for ${release}; it was not installed (--allow-downgrade does)`,
        },
      },
    ]);
    expect(await version()).toBe('1.10');
    expect(await askForBuilt(context, host, '1.9', { mayGoDown: true })).toMatchObject([
      { problem: null },
    ]);
    expect(await version()).toBe('1.9');
    await installBuilt(context, host, '1.10');
    expect(await version()).toBe('1.10');
  });

  it('takes nothing that is withdrawn, and says of what it has that it is, also when nobody can be asked', async () => {
    const granted = await askForBuilt(context, host, '2.0', { withdrawals: [withdrawal] });
    expect(granted).toMatchObject([
      {
        problem: {
          code: 'withdrawn',
          message: 'the source hello/2.0 was withdrawn: it eats disks; nothing was installed',
        },
      },
    ]);
    await installBuilt(context, host, '2.0');
    await askWithdrawals(host, { withdrawals: async () => [withdrawal] });
    expect(await markWithdrawn(host, await standings(host))).toMatchObject([
      {
        state: 'withdrawn',
        because: ['the source hello/2.0 was withdrawn: it eats disks (as last known)'],
      },
    ]);
    const silent = { withdrawals: async () => [] };
    await askWithdrawals(host, silent);
    expect(await markWithdrawn(host, await standings(host))).toMatchObject([
      { state: 'withdrawn', because: [expect.stringMatching(/the service no longer says so/)] },
    ]);
    await askWithdrawals(host, silent, true);
    expect(await markWithdrawn(host, await standings(host))).toMatchObject([
      { state: 'installed' },
    ]);
    expect(built('2.0').build.source.digest).toBe(withdrawal.id);
  });
});
