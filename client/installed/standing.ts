import { lstat, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { digestOf } from '../../services/core/digest.ts';
import { KilnError } from '../../services/core/errors.ts';
import { explainInputs, isStaleness } from '../../services/core/build/explain.ts';
import type { CreateBuild, ResolvedView } from '../../services/core/protocol/build.ts';
import type { Withdrawal } from '../../services/core/policy/withdrawal.ts';
import { hostKernels, hostKernel, type Host } from '../host/host.ts';
import { lookAtFiles } from './brought-files.ts';
import { listReceipts, moduleFile, type Receipt } from './receipts.ts';
import type { Service } from '../wire/service.ts';
import { newerHere, versionIn } from './newest-here.ts';
import { readFailures, readWanted } from './wanted.ts';
import { askWithdrawals, knownWithdrawals, whyWithdrawn } from './withdrawn.ts';

/** The state of one wanted or installed source on one kernel of a host. */
export interface Standing {
  readonly name: string;
  readonly release: string;
  readonly state:
    | 'installed'
    | 'linked'
    | 'stale'
    | 'withdrawn'
    | 'overridden'
    | 'excluded'
    | 'in-tree'
    | 'failed'
    | 'missing';
  /** What changed, what is wrong, or why there is none: one sentence each. */
  readonly because: readonly string[];
  /** When it first failed, in milliseconds of the epoch. */
  readonly since: number | null;
  /** The version that the service would give, where this host has a newer one, which it keeps unless a person allows the older. */
  readonly older: string | null;
  readonly receipt: Receipt | null;
}

/** The standings of all sources on all kernels of a host, from its own files alone: `markStale` adds what the service knows. */
export const standings = async (host: Host): Promise<readonly Standing[]> => {
  const [{ receipts }, wanted, failures, kernels] = await Promise.all([
    listReceipts(host),
    readWanted(host),
    readFailures(host),
    hostKernels(host),
  ]);
  const rows: Standing[] = [];
  for (const receipt of receipts) {
    rows.push({
      name: receipt.name,
      release: receipt.release,
      ...(await stateOf(host, receipt, receipts)),
      since: null,
      older: null,
      receipt,
    });
  }
  for (const release of kernels) {
    for (const { name } of wanted) {
      if (rows.some((row) => row.name === name && row.release === release)) continue;
      const failure = failures.find((each) => each.name === name && each.release === release);
      const state =
        failure === undefined
          ? 'missing'
          : failure.code === 'excluded' || failure.code === 'in-tree'
            ? failure.code
            : 'failed';
      rows.push({
        name,
        release,
        state,
        because: failure === undefined ? [] : [failure.message],
        since: failure?.since ?? null,
        older: null,
        receipt: null,
      });
    }
  }
  return rows.sort((a, b) =>
    a.release === b.release ? compare(a.name, b.name) : compare(a.release, b.release),
  );
};

/** The rows with the service's answer: an installed module that would be built otherwise now is stale. */
export const markStale = async (
  host: Host,
  service: Pick<Service, 'resolve' | 'withdrawals'>,
  rows: readonly Standing[],
): Promise<readonly Standing[]> => {
  const installed = rows.filter(({ state }) => state === 'installed' || state === 'linked');
  if (installed.length === 0) return rows;
  const resolved = await resolveRows(host, service, installed);
  const { receipts } = await listReceipts(host);
  const withdrawals = await askWithdrawals(host, service);
  const wanted = await readWanted(host);
  const judged = new Map(
    resolved.map(({ row, view }) => {
      const isNamed = wanted.some(({ name, version }) => name === row.name && version !== null);
      return [row, judge(row, view, { receipts: isNamed ? [] : receipts, withdrawals })];
    }),
  );
  return rows.map((row) => judged.get(row) ?? row);
};

/** The rows with the withdrawals that this host already knows of, without asking the service. */
export const markWithdrawn = async (
  host: Host,
  rows: readonly Standing[],
): Promise<readonly Standing[]> => {
  const withdrawals = await knownWithdrawals(host);
  return rows.map((row) => {
    const why = row.receipt === null ? null : whyWithdrawn(withdrawals, row.receipt);
    return why === null || row.state === 'overridden'
      ? row
      : { ...row, state: 'withdrawn', because: [`${why} (as last known)`] };
  });
};

/** One row with the service's answer: withdrawn, stale, or as it was. */
const judge = (
  row: Standing,
  view: ResolvedView | undefined,
  known: { readonly receipts: readonly Receipt[]; readonly withdrawals: readonly Withdrawal[] },
): Standing => {
  const offer = view === undefined || 'problem' in view ? null : view;
  const version = offer === null ? null : versionIn(offer.source.version, offer.inputs);
  const newer = version === null ? null : newerHere(known.receipts, row.name, version);
  const older = newer === null || version === null ? null : version.version;
  const next =
    older === null
      ? []
      : [
          `the service has ${row.name}/${older}, which is older than ${newer?.version ?? ''} here; kiln autoinstall --allow-downgrade goes there`,
        ];
  const why = row.receipt === null ? null : whyWithdrawn(known.withdrawals, row.receipt);
  if (why !== null) return { ...row, state: 'withdrawn', because: [why, ...next], older };
  if (older !== null) return { ...row, because: [...row.because, ...next], older };
  const because = whyStale(row, view);
  return because.length === 0 ? row : { ...row, state: 'stale', because };
};

/** Rows, each with the request for its source on its kernel: with the toolchain, waivers and settings that it was first asked for with. */
export const withRequests = async (
  host: Host,
  rows: readonly Standing[],
): Promise<readonly { readonly row: Standing; readonly request: CreateBuild }[]> => {
  const wanted = await readWanted(host);
  const facts = new Map<string, CreateBuild['kernel']>();
  for (const { release } of rows)
    if (!facts.has(release)) facts.set(release, await hostKernel(host, release));
  return rows.map((row) => {
    const { name, release } = row;
    const { version = null, how } = wanted.find((each) => each.name === name) ?? {};
    const source = version === null ? { name } : { name, version };
    return { row, request: { ...how, source, kernel: facts.get(release) ?? { release } } };
  });
};

/** Rows, each with what the service would build for it now. */
export const resolveRows = async (
  host: Host,
  service: Pick<Service, 'resolve'>,
  rows: readonly Standing[],
): Promise<readonly { readonly row: Standing; readonly view: ResolvedView | undefined }[]> => {
  const asked = await withRequests(host, rows);
  const views = await service.resolve(asked.map(({ request }) => request));
  return asked.map(({ row }, index) => ({ row, view: views[index] }));
};

const whyStale = ({ receipt }: Standing, view: ResolvedView | undefined): readonly string[] => {
  if (receipt === null || view === undefined || 'problem' in view) return [];
  const differences = explainInputs(receipt.inputs, view.inputs).filter(isStaleness);
  // A linked module was built for another kernel: of its inputs, those that name the kernel do not count.
  const counted =
    receipt.linkedFrom === null ? differences : differences.filter(({ part }) => part === 'source');
  return counted.map(({ words }) => words);
};

/**
 * The state of a receipt's files. A linked module that is gone is `missing` and comes again, since `weak-modules` drops links; a built one
 * that is gone is `overridden`, since a person removed it.
 */
const stateOf = async (
  host: Host,
  receipt: Receipt,
  receipts: readonly Receipt[],
): Promise<Pick<Standing, 'state' | 'because'>> => {
  const isLinked = receipt.linkedFrom !== null;
  for (const { path, digest } of receipt.modules) {
    const place = join(host.root, 'lib/modules', receipt.release, path);
    const file = await moduleFile(host, receipt.release, path);
    const bytes = await readFile(file).catch(() => null);
    if (bytes === null) {
      const isLink = await lstat(place).then(
        () => true,
        () => false,
      );
      if (isLink) return { state: 'overridden', because: [`${path} leads nowhere`] };
      return { state: isLinked ? 'missing' : 'overridden', because: [`${path} is missing`] };
    }
    if (digestOf(bytes) !== digest) {
      return { state: 'overridden', because: [`${path} has other bytes than were installed`] };
    }
  }
  const wrong = (await lookAtFiles(host, receipt, receipts)).find(
    ({ problem }) => problem !== null,
  );
  if (wrong !== undefined)
    return { state: 'overridden', because: [`/${wrong.path} ${wrong.problem}`] };
  return { state: isLinked ? 'linked' : 'installed', because: [] };
};

/** The kernels of a host that lack wanted modules, and why. */
export const incomplete = async (host: Host): Promise<ReadonlyMap<string, string>> => {
  const lacking = new Map<string, string>();
  for (const { name, release, state, because } of await standings(host)) {
    if (state !== 'failed' && state !== 'missing' && state !== 'overridden') continue;
    const words = `${name} is ${state}${because.length === 0 ? '' : `: ${because.join('; ')}`}`;
    const before = lacking.get(release);
    lacking.set(release, before === undefined ? words : `${before}; ${words}`);
  }
  return lacking;
};

const compare = (a: string, b: string): number => a.localeCompare(b, 'en', { numeric: true });

/** Throws `not-found` where a host has nothing of that name. */
export const rowsOf = (
  rows: readonly Standing[],
  name: string | undefined,
): readonly Standing[] => {
  const meant = rows.filter((row) => name === undefined || row.name === name);
  if (meant.length === 0 && name !== undefined)
    throw new KilnError('not-found', `${name} was not installed by kiln`);
  return meant;
};
