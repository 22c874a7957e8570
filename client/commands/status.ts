import { dirname } from 'node:path';
import { hasErrno, KilnError } from '../../services/core/errors.ts';
import { table, type Command, type Context } from '../command.ts';
import type { Host } from '../host/host.ts';
import { isBeingChanged } from '../host/lock.ts';
import { listReceipts } from '../installed/receipts.ts';
import { standingMetrics } from '../installed/standing-metrics.ts';
import {
  markStale,
  markWithdrawn,
  rowsOf,
  standings,
  type Standing,
} from '../installed/standing.ts';
import { writeWhole } from '../transaction/whole-file.ts';
import { interrupted } from '../transaction/transaction.ts';

const STATES = `  installed    as it was installed, and what would be installed now
  stale        the service would build it from something else now: other headers, toolchain or source version
  withdrawn    an admin has withdrawn what it was made of; why, and what is next
  linked       another kernel's module, proven to fit and linked
  overridden   its bytes are not those that were installed
  excluded     its source says that it is not for this kernel
  in-tree      the kernel's own module is the same or newer
  failed       it could not be had; the first error, and since when
  missing      wanted, and not there yet (kiln autoinstall)`;

export const status: Command = {
  name: 'status',
  args: '[NAME]',
  summary: 'say of every kernel here and every wanted module how it stands',
  help: `${STATES}

      --offline          do not ask the service what is stale
      --prometheus FILE  write it into FILE for node_exporter's textfile collector, such as
                         /var/lib/prometheus/node-exporter/kiln.prom
      --root DIR         of another root`,
  options: { offline: { type: 'boolean' }, prometheus: { type: 'string' } },
  async run(context) {
    const host = await context.host();
    const known = rowsOf(await standings(host), context.args[0]);
    const { rows, unasked } = await askWhatIsStale(context, host, known);
    const halfDone = await interrupted(host);
    const isGoingOn = halfDone !== null && (await isBeingChanged(host));
    const { damaged } = await listReceipts(host);
    const notes = [
      ...(unasked === null ? [] : [`what is stale is not known: ${unasked}`]),
      ...(halfDone === null
        ? []
        : isGoingOn
          ? [`another kiln is at work: ${halfDone}`]
          : [`interrupted: ${halfDone}; kiln recover puts it right`]),
      ...damaged.map((path) => `damaged receipt: ${path}; install its module again`),
    ];
    const lines = rows.map((row) => [
      row.release,
      row.receipt === null ? row.name : `${row.name}/${row.receipt.version}`,
      row.state,
      ...(row.receipt === null ? [''] : [row.receipt.signer === null ? 'unsigned' : 'signed']),
      tell(row),
    ]);
    const file = context.option('prometheus');
    if (file !== undefined) {
      const isInterrupted = halfDone !== null && !isGoingOn;
      const text = standingMetrics(rows, { isInterrupted, now: Date.now() });
      await writeWhole(file, Buffer.from(text)).catch((cause: unknown) => {
        if (!hasErrno(cause, 'ENOENT')) throw cause;
        const directory = dirname(file);
        throw new KilnError('bad-request', `there is no directory ${directory}; make it`, {
          cause,
        });
      });
    }
    context.progress.done();
    const body = lines.length === 0 ? 'nothing is installed by kiln' : table(lines);
    context.print([body, ...notes].join('\n'), { modules: rows, notes });
  },
};

const tell = ({ because, since, receipt }: Standing): string =>
  [
    ...(receipt === null || receipt.linkedFrom === null ? [] : [`from ${receipt.linkedFrom}`]),
    ...because,
    ...(since === null ? [] : [`since ${new Date(since).toISOString()}`]),
  ].join('; ');

/** Asks the service what is stale. Where it does not answer, the status is shown without that. */
const askWhatIsStale = async (
  context: Context,
  host: Host,
  rows: readonly Standing[],
): Promise<{ readonly rows: readonly Standing[]; readonly unasked: string | null }> => {
  if (context.flag('offline')) return { rows: await markWithdrawn(host, rows), unasked: null };
  try {
    return { rows: await markStale(host, context.service, rows), unasked: null };
  } catch (error) {
    if (!(error instanceof KilnError)) throw error;
    return { rows: await markWithdrawn(host, rows), unasked: error.message };
  }
};
