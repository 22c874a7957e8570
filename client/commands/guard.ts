import { KilnError } from '../../services/core/errors.ts';
import type { Command } from '../command.ts';
import { keepDefault, undoGuard, type Incomplete } from '../installed/boot-guard.ts';

/** `kiln guard`. `incomplete` tells which kernels lack modules. */
export const guard = (incomplete: Incomplete): Command => ({
  name: 'guard',
  args: '',
  summary: 'keep the boot loader’s default on the newest kernel that has all its modules',
  help: `Where the kernel that would be started next lacks a module it should have, GRUB or systemd-boot is set to the newest kernel
that lacks none, and set back once all are there: with guard = yes by any command that installs what was missing. GRUB must have GRUB_DEFAULT=saved in /etc/default/grub. What was set is kept in
/var/lib/kiln/guard.json; a default that somebody else has set since is left alone.

      --undo             set back what guard has set
      --hook             for package managers: only where the configuration has guard = yes, and never failing
      --root DIR         of another root`,
  options: { undo: { type: 'boolean' }, hook: { type: 'boolean' } },
  async run(context) {
    const host = await context.host();
    if (context.flag('hook') && !context.config.guard) return;
    try {
      const { text, ...answer } = context.flag('undo')
        ? await undoGuard(host)
        : await keepDefault(host, incomplete);
      context.print(text, answer);
    } catch (error) {
      if (!context.flag('hook') || !(error instanceof KilnError)) throw error;
      context.print(`kiln guard did nothing: ${error.message}`, { problem: error.message });
    }
  },
});
