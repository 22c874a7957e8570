import type { Context } from '../command.ts';
import type { Host } from '../host/host.ts';
import { withLock } from '../host/lock.ts';
import { listReceipts, receiptKey, type Receipt } from '../installed/receipts.ts';
import { withUnneeded } from '../installed/unneeded.ts';
import { noteFailures, readFailures, readWanted, wantedChange } from '../installed/wanted.ts';
import type { Change } from '../transaction/change.ts';
import { changeHost, recoverAloud } from './change-host.ts';
import { settingsTaken } from './host-files.ts';
import { linksTo, planRemove } from './plan-remove.ts';

/**
 * Removes sources from some kernels or all, in one transaction, and with them what they were built against and nobody else needs. Gives
 * the receipts of all that was removed. `forget`: names that are no longer wanted.
 */
export const removeAll = (
  context: Context,
  host: Host,
  meant: readonly Receipt[],
  terms: { readonly forget: readonly string[]; readonly initramfs: boolean },
): Promise<readonly Receipt[]> =>
  withLock(host, async () => {
    await recoverAloud(context, host);
    const { receipts } = await listReceipts(host);
    // Another kiln may have changed them since: the receipts as they are now are removed.
    const named = receipts.filter((each) =>
      meant.some((one) => receiptKey(one) === receiptKey(each)),
    );
    const left = (await readWanted(host)).filter(({ name }) => !terms.forget.includes(name));
    const going = withUnneeded(named, receipts, left);
    const changes: Change[] = [];
    for (const receipt of going) changes.push(...(await planRemove(host, receipt, receipts)));
    const gone = new Set(going.flatMap((each) => [each, ...linksTo(each, receipts)]));
    const staying = receipts.filter((each) => !gone.has(each));
    changes.push(...(await settingsTaken(host, receipts, staying)));
    const titles = going.map(({ name, version, release }) => `${name}/${version} from ${release}`);
    await changeHost(context, host, {
      title: `remove ${[...titles, ...(going.length === 0 ? terms.forget : [])].join(', ')}`,
      changes: [...changes, wantedChange(left)],
      laid: [],
      taken: going,
      initramfs: terms.initramfs,
    });
    const forgotten = (await readFailures(host)).filter(({ name }) => terms.forget.includes(name));
    await noteFailures(
      host,
      [...going, ...forgotten].map(({ name, release }) => ({ name, release, problem: null })),
    );
    return going;
  });
