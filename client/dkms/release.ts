import type { Context } from '../command.ts';
import type { Host } from '../host/host.ts';
import { withLock } from '../host/lock.ts';
import { changeHost, recoverAloud } from '../install/change-host.ts';
import { listReceipts, noReceipt } from '../installed/receipts.ts';

/**
 * Gives what dkms's tree has installed over to dkms itself: the modules, the tree and its links stay, and Kiln's receipts of them go. kiln-dkms
 * does so when it is removed.
 */
export const releaseToDkms = (context: Context, host: Host): Promise<void> =>
  withLock(host, async () => {
    await recoverAloud(context, host);
    const { receipts } = await listReceipts(host);
    const going = receipts.filter(({ dkmsTree }) => dkmsTree !== null);
    if (going.length === 0) return;
    await changeHost(context, host, {
      title: 'give modules over to dkms',
      changes: going.map(noReceipt),
      laid: [],
      taken: [],
      initramfs: false,
    });
    for (const { name, version, release } of going)
      context.progress.say(`${name}/${version} for ${release} is dkms's own from now on`);
  });
