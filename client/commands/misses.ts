import { table, type Command } from '../command.ts';

const misses: Command = {
  name: 'misses',
  args: '',
  summary: 'list what hosts asked for and did not get, and why (admin)',
  help: `One line for each reason (an error code), source and kernel release: how often, and when last. The latest come first.`,
  options: {},
  async run(context) {
    const found = await context.service.misses();
    const rows = found.map(({ reason, source, release, count, lastAt }) => [
      String(count),
      reason,
      source ?? '-',
      release ?? '-',
      new Date(lastAt).toISOString(),
    ]);
    context.print(
      rows.length === 0
        ? 'nothing was asked for in vain'
        : table([['COUNT', 'REASON', 'SOURCE', 'KERNEL', 'LAST'], ...rows]),
      found,
    );
  },
};

export const MISS_COMMANDS: readonly Command[] = [misses];
