import { KilnError } from '../../services/core/errors.ts';
import type { Command } from '../command.ts';
import { removeAll } from '../install/remove.ts';
import { listReceipts, readReceipt } from '../installed/receipts.ts';
import { readWanted } from '../installed/wanted.ts';

export const remove: Command = {
  name: 'remove',
  args: 'NAME…',
  summary: 'take installed modules away, and put back what they had displaced',
  help: `Without -k they go from every kernel, and kernels to come do not get them either. What was installed only because they were built
against it goes with them.

  -k, --kernel RELEASE   from this kernel alone; may be repeated
      --no-initramfs     leave initramfs images alone
      --root DIR         from another root`,
  options: {
    kernel: { type: 'string', short: 'k', multiple: true },
    'no-initramfs': { type: 'boolean' },
  },
  async run(context) {
    const host = await context.host();
    if (context.args.length === 0)
      throw new KilnError('bad-request', 'name what to remove; kiln status lists what there is');
    const releases = context.options('kernel');
    const { receipts } = await listReceipts(host);
    const wanted = releases.length === 0 ? await readWanted(host) : [];
    const meant = receipts.filter(
      ({ name, release }) =>
        context.args.includes(name) && (releases.length === 0 || releases.includes(release)),
    );
    for (const name of context.args) {
      if ([...meant, ...wanted].some((each) => each.name === name)) continue;
      for (const release of releases) await readReceipt(host, release, name);
      throw new KilnError(
        'not-found',
        `${name} was not installed by kiln${releases.length === 0 ? '' : ` for ${releases.join(', ')}`}; kiln status lists what was`,
      );
    }
    const went = await removeAll(context, host, meant, {
      forget: releases.length === 0 ? context.args : [],
      initramfs: context.config.initramfs && !context.flag('no-initramfs'),
    });
    const gone = went.map((each) => `removed ${each.name}/${each.version} from ${each.release}`);
    context.print(
      gone.length === 0 ? `${context.args.join(', ')}: no longer wanted` : gone.join('\n'),
      went,
    );
  },
};
