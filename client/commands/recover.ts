import type { Command } from '../command.ts';
import { withLock } from '../host/lock.ts';
import { recoverAloud } from '../install/change-host.ts';

export const recover: Command = {
  name: 'recover',
  args: '',
  summary: 'undo or finish what an interrupted kiln left half done',
  help: `Every command that changes the host does this first; at boot kiln-recover.service does.

      --root DIR         of another root`,
  options: {},
  async run(context) {
    const host = await context.host();
    const words = await withLock(host, () => recoverAloud(context, host));
    context.print(words ?? 'nothing was interrupted', { recovered: words });
  },
};
