import type { Command } from '../command.ts';
import { withLock } from '../host/lock.ts';
import { changeHost, recoverAloud } from '../install/change-host.ts';
import { listReceipts } from '../installed/receipts.ts';
import { readPrevious } from '../transaction/previous.ts';

export const rollback: Command = {
  name: 'rollback',
  args: '',
  summary: 'put back what the last install, removal or rollback replaced',
  help: `Files and receipts alike, of all kernels it concerned, in one transaction. A second rollback takes the first one back.

      --show             only say what it would undo
      --no-initramfs     leave initramfs images alone
      --root DIR         of another root`,
  options: { show: { type: 'boolean' }, 'no-initramfs': { type: 'boolean' } },
  async run(context) {
    const host = await context.host();
    const last = await readPrevious(host);
    const words = `${last.title}, of ${last.at.toISOString()}`;
    if (context.flag('show')) {
      context.print(words, { title: last.title, at: last.at });
      return;
    }
    await withLock(host, async () => {
      await recoverAloud(context, host);
      const { title, changes } = await readPrevious(host);
      const { receipts } = await listReceipts(host);
      const concerned = new Set(changes.map(({ path }) => path));
      const taken = receipts.filter(({ release, modules }) =>
        modules.some(({ path }) => concerned.has(`lib/modules/${release}/${path}`)),
      );
      await changeHost(context, host, {
        title: `roll back: ${title}`,
        changes,
        laid: [],
        taken,
        initramfs: context.config.initramfs && !context.flag('no-initramfs'),
      });
    });
    context.print(`rolled back: ${words}`, { title: last.title, at: last.at });
  },
};
