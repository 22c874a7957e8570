import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { KilnError } from '../../services/core/errors.ts';
import type { Withdrawal } from '../../services/core/policy/withdrawal.ts';
import { table, type Command, type Context } from '../command.ts';
import { hostKernels, type Host } from '../host/host.ts';
import { leadsToOurs, listReceipts, type Receipt } from '../installed/receipts.ts';
import { readCertificate, verifyReceipt, type Verdict } from '../installed/verify.ts';
import { askWithdrawals, knownWithdrawals, whyWithdrawn } from '../installed/withdrawn.ts';
import { createPatience } from '../wire/retry.ts';
import { openService } from '../wire/service.ts';

/** Seconds that the service has to answer what is withdrawn. */
const ANSWER_SECONDS = 10;

export const verify: Command = {
  name: 'verify',
  args: '[NAME]',
  summary:
    'check installed modules’ bytes, signature, provenance, name and vermagic, and whether they are withdrawn',
  help: `Exit status 6 if any does not pass, or is withdrawn. What is withdrawn the service is asked, where one is set up, once and for
${ANSWER_SECONDS} seconds at most; where it does not answer that is said, and what this host has heard of before counts. All else needs nobody.

      --all              tell also of modules beside the kernel's own that are not Kiln's
      --offline          do not ask the service
      --root DIR         of another root`,
  options: { all: { type: 'boolean' }, offline: { type: 'boolean' } },
  async run(context) {
    const host = await context.host();
    const [name] = context.args;
    const all = await soundReceipts(host);
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
          verifyReceipt(host, receipt, all, () => readCertificate(context.config.certificate)),
        ),
      )
    ).flat();
    const { withdrawals, unasked } = await hearWithdrawals(context, host);
    const withdrawn = receipts.flatMap((receipt) => {
      const why = whyWithdrawn(withdrawals, receipt);
      return why === null ? [] : [{ name: receipt.name, release: receipt.release, why }];
    });
    const lines = [
      ...verdicts.map(({ path, problem }) => [path, problem ?? 'ok']),
      ...withdrawn.map((each) => [`${each.name} for ${each.release}`, each.why]),
      ...others.map((path) => [path, 'not installed by kiln']),
    ];
    const note = unasked === null ? '' : `\nwhat is withdrawn is as last known: ${unasked}`;
    context.progress.done();
    context.print(`${table(lines)}${note}`, { verdicts, withdrawn, others, unasked });
    const bad = verdicts.filter(({ problem }) => problem !== null);
    if (bad.length > 0)
      throw new KilnError(
        'unverified',
        `${bad.length} of ${verdicts.length} files did not pass; ${installAgain(receipts, bad)} installs them as the service signs them now`,
      );
    const [first] = withdrawn;
    if (first !== undefined)
      throw new KilnError('withdrawn', `${first.why}; kiln autoinstall goes to what is next`);
  },
};

/** All receipts of a host. Throws `unverified` where some are damaged. */
const soundReceipts = async (host: Host): Promise<readonly Receipt[]> => {
  const { receipts, damaged } = await listReceipts(host);
  if (damaged.length > 0)
    throw new KilnError(
      'unverified',
      `damaged receipts: ${damaged.join(', ')}; install their modules again`,
    );
  return receipts;
};

/** The withdrawals by the service's word, or as last known. `unasked`: why a service that is set up was asked in vain, or `null`. */
const hearWithdrawals = async (
  context: Context,
  host: Host,
): Promise<{ readonly withdrawals: readonly Withdrawal[]; readonly unasked: string | null }> => {
  if (context.flag('offline') || !context.config.isServerNamed)
    return { withdrawals: await knownWithdrawals(host), unasked: null };
  const late = AbortSignal.timeout(ANSWER_SECONDS * 1000);
  const signal = AbortSignal.any([context.signal, late]);
  const patience = createPatience({ seconds: 0, signal, say: context.progress.say });
  context.progress.step('asking what is withdrawn');
  try {
    const withdrawals = await askWithdrawals(host, openService(context.send, patience));
    return { withdrawals, unasked: null };
  } catch (error) {
    context.signal.throwIfAborted();
    if (!late.aborted && !(error instanceof KilnError)) throw error;
    const unasked =
      error instanceof KilnError
        ? error.message
        : `${context.config.server} did not answer within ${ANSWER_SECONDS} s`;
    return { withdrawals: await knownWithdrawals(host), unasked };
  }
};

/** The command that installs again the modules that did not pass. */
const installAgain = (receipts: readonly Receipt[], bad: readonly Verdict[]): string => {
  const meant = receipts.filter((receipt) =>
    bad.some(({ source, release }) => release === receipt.release && source === receipt.name),
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
