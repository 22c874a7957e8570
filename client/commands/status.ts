import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { KilnError } from '../../services/core/errors.ts';
import { explainInputs } from '../../services/core/build/explain.ts';
import { onlyArgument, table, type Command, type Context } from '../command.ts';
import { hostKernels, type Host } from '../host/host.ts';
import { isBeingChanged } from '../host/lock.ts';
import { leadsToOurs, listReceipts, type Receipt } from '../installed/receipts.ts';
import {
  markStale,
  markWithdrawn,
  rowsOf,
  standings,
  wishesFor,
  type Standing,
} from '../installed/standing.ts';
import { interrupted } from '../transaction/transaction.ts';
import { knownWithdrawals, whyWithdrawn } from '../installed/withdrawn.ts';
import { readCertificate, verifyReceipt, type Verdict } from '../installed/verify.ts';

const STATES = `  installed    as it was installed, and what would be installed now
  stale        the service would build it from something else now: other headers, toolchain or source version
  withdrawn    an admin has withdrawn what it was made of; why, and what is next
  linked       another kernel's module, proven to fit and linked
  overridden   its bytes are not those that were installed
  excluded     its source says that it is not for this kernel
  in-tree      the kernel's own module is the same or newer
  failed       it could not be had; the first error, and since when
  missing      wanted, and not there yet (kiln autoinstall)`;

const status: Command = {
  name: 'status',
  args: '[NAME]',
  summary: 'say of every kernel here and every wanted module how it stands',
  help: `${STATES}

      --offline          do not ask the service what is stale
      --root DIR         of another root`,
  options: { offline: { type: 'boolean' } },
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

const explain: Command = {
  name: 'explain',
  args: 'MODULE | BUILD BUILD',
  summary: 'compare an installed module with what would be built now, or two builds, in words',
  help: `  -k, --kernel RELEASE   only for this kernel
      --root DIR         of another root`,
  options: { kernel: { type: 'string', short: 'k' } },
  async run(context) {
    const [first, second] = context.args;
    if (first !== undefined && second !== undefined) {
      const [before, after] = [
        await context.service.build(first),
        await context.service.build(second),
      ];
      const differences = explainInputs(before.inputs, after.inputs);
      context.print(sayDifferences(differences), { before: first, after: second, differences });
      return;
    }
    const name = onlyArgument(context, 'module, or two builds');
    const host = await context.host();
    const release = context.option('kernel');
    const rows = rowsOf(await standings(host), name).filter(
      (row) => release === undefined || row.release === release,
    );
    const views = await context.service.resolve(await wishesFor(host, rows));
    const said = rows.map((row, index) => {
      const view = views[index];
      const problem = view !== undefined && 'problem' in view ? view.problem.detail : null;
      const differences =
        row.receipt === null || view === undefined || 'problem' in view
          ? []
          : explainInputs(row.receipt.inputs, view.inputs);
      return {
        name,
        release: row.release,
        state: row.state,
        because: row.because,
        problem,
        differences,
      };
    });
    context.print(
      said
        .map(({ release: kernel, state, because, problem, differences }) =>
          [
            `${name} for ${kernel}: ${state}`,
            ...because.map((words) => `  ${words}`),
            ...(problem === null ? [] : [`  the service cannot build it now: ${problem}`]),
            ...(state === 'missing' || problem !== null
              ? []
              : [indent(sayDifferences(differences))]),
          ].join('\n'),
        )
        .join('\n'),
      said,
    );
  },
};

const indent = (text: string): string => text.replaceAll(/^/gm, '  ');

const sayDifferences = (differences: readonly { readonly words: string }[]): string =>
  differences.length === 0
    ? 'built from the same inputs: the same bytes'
    : differences.map(({ words }) => words).join('\n');

const verify: Command = {
  name: 'verify',
  args: '[NAME]',
  summary: 'check installed modules’ bytes, signature, provenance, name and vermagic; asks nobody',
  help: `Exit status 6 if any does not pass, or is withdrawn as far as this host knows (kiln status and autoinstall ask).
      --all              tell also of modules beside the kernel's own that are not Kiln's
      --root DIR         of another root`,
  options: { all: { type: 'boolean' } },
  async run(context) {
    const host = await context.host();
    const [name] = context.args;
    const { receipts: all, damaged } = await listReceipts(host);
    if (damaged.length > 0)
      throw new KilnError(
        'unverified',
        `damaged receipts: ${damaged.join(', ')}; install their modules again`,
      );
    const receipts = all.filter((receipt) => name === undefined || receipt.name === name);
    const others = context.flag('all') ? await notOurs(host) : [];
    if (receipts.length === 0 && others.length === 0)
      throw new KilnError(
        'not-found',
        name === undefined ? 'nothing is installed by kiln' : `${name} was not installed by kiln`,
      );
    const verdicts = (
      await Promise.all(
        receipts.map((receipt) =>
          verifyReceipt(host, receipt, () => readCertificate(context.config.certificate)),
        ),
      )
    ).flat();
    const withdrawals = await knownWithdrawals(host);
    const withdrawn = receipts.flatMap((receipt) => {
      const why = whyWithdrawn(withdrawals, receipt);
      return why === null ? [] : [{ name: receipt.name, release: receipt.release, why }];
    });
    const lines = [
      ...verdicts.map(({ path, problem }) => [path, problem ?? 'ok']),
      ...withdrawn.map((each) => [`${each.name} for ${each.release}`, each.why]),
      ...others.map((path) => [path, 'not installed by kiln']),
    ];
    context.print(table(lines), context.flag('all') ? { verdicts, others } : verdicts);
    const bad = verdicts.filter(({ problem }) => problem !== null);
    if (bad.length > 0)
      throw new KilnError(
        'unverified',
        `${bad.length} of ${verdicts.length} modules did not pass; ${installAgain(receipts, bad)} installs them as the service signs them now`,
      );
    const [first] = withdrawn;
    if (first !== undefined)
      throw new KilnError('withdrawn', `${first.why}; kiln autoinstall goes to what is next`);
  },
};

/** The command that installs again the modules that did not pass. */
const installAgain = (receipts: readonly Receipt[], bad: readonly Verdict[]): string => {
  const meant = receipts.filter((receipt) =>
    bad.some(
      ({ module, release }) =>
        release === receipt.release && receipt.modules.some(({ name }) => name === module),
    ),
  );
  const unsigned = meant.some(({ signer }) => signer === null) ? ' --allow-unsigned' : '';
  const names = new Set(meant.map(({ name }) => name));
  const kernels = new Set(meant.map(({ release }) => `-k ${release}`));
  return `kiln install ${[...names, ...kernels].join(' ')}${unsigned}`;
};

/** Modules that depmod prefers to the kernel's own and that no receipt names: another tool's, or left over. */
const notOurs = async (host: Host): Promise<readonly string[]> => {
  const { receipts } = await listReceipts(host);
  const ours = new Set(
    receipts.flatMap(({ release, modules }) => modules.map(({ path }) => `${release}/${path}`)),
  );
  const found: string[] = [];
  for (const release of await hostKernels(host)) {
    for (const directory of ['updates', 'extra', 'weak-updates']) {
      const files = await readdir(join(host.root, 'lib/modules', release, directory), {
        recursive: true,
      }).catch(() => []);
      for (const file of files) {
        const path = `${release}/${directory}/${file}`;
        if (!/\.ko(\.(gz|xz|zst))?$/.test(file) || ours.has(path)) continue;
        if (await leadsToOurs(host, join('lib/modules', path), receipts)) continue;
        found.push(join(host.root, 'lib/modules', path));
      }
    }
  }
  return found;
};

export const STATUS_COMMANDS: readonly Command[] = [status, explain, verify];
