import { KilnError } from '../../services/core/errors.ts';
import type { Change } from '../transaction/change.ts';
import type { Context } from '../command.ts';
import type { Host } from '../host/host.ts';
import { hasProgram, runOn } from '../host/programs.ts';
import { listReceipts, type Receipt } from '../installed/receipts.ts';

const WEAK_MODULES = 'weak-modules';
/** Of its standard output, in bytes: far more than it writes, as it is ended where it stands if it does. */
const OUTPUT_LIMIT = 1024 ** 2;
/** Of that, the characters that are told. */
const WORDS = 500;
/** A module that was built for its kernel, not linked there. */
const BUILT_MODULE = /^lib\/modules\/[^/]+\/updates\/.+\.ko(\.gz|\.xz|\.zst)?$/;

/**
 * Tells Enterprise Linux's `weak-modules`, where there is one, what came or went, once for a whole transaction: it links what came to the
 * kernels that it fits, and drops links to what went. Gives the kernels whose links differ since, and the modules; their indexes are up
 * to date. Throws `install-failed` with the program's own words.
 */
export const tellWeakModules = async (
  context: Context,
  host: Host,
  changes: readonly Change[],
): Promise<ReadonlyMap<string, readonly string[]>> => {
  const modules = changes.filter(({ path }) => BUILT_MODULE.test(path));
  if (modules.length === 0 || !(await hasProgram(host, WEAK_MODULES))) return new Map();
  const before = await listReceipts(host);
  const stays = new Set(
    before.receipts.flatMap(({ mayLink, release, modules: own }) =>
      mayLink ? [] : own.map(({ path }) => `lib/modules/${release}/${path}`),
    ),
  );
  await tell(
    context,
    host,
    '--remove-modules',
    modules.filter(({ to }) => to === null),
  );
  await tell(
    context,
    host,
    '--add-modules',
    modules.filter(({ path, to }) => to !== null && !stays.has(path)),
  );
  const after = await listReceipts(host);
  const differing = new Map([
    ...modulesByKernel(before.receipts, after.receipts),
    ...modulesByKernel(after.receipts, before.receipts),
  ]);
  for (const release of differing.keys()) await index(host, release);
  return differing;
};

/** It runs depmod itself, with a `System.map` that may not be there, and ends well if that fails. Its links are for the host's own eyes. */
const index = async (host: Host, release: string): Promise<void> => {
  const { status, words } = await runOn(host, 'depmod', [release]);
  if (status !== 0)
    throw new KilnError(
      'install-failed',
      `depmod ${release} failed after ${WEAK_MODULES} (${words || `exit status ${status}`})`,
    );
};

const tell = async (
  context: Context,
  host: Host,
  task: string,
  modules: readonly Change[],
): Promise<void> => {
  if (modules.length === 0) return;
  context.progress.step(`${WEAK_MODULES} ${task}`);
  const input = Buffer.from(modules.map(({ path }) => `/${path}\n`).join(''));
  const options = { input, limit: OUTPUT_LIMIT };
  const { status, stdout, words } = await runOn(
    host,
    WEAK_MODULES,
    [task, '--no-initramfs'],
    options,
  );
  if (status === 0) return;
  // What keeps it from its work it says on standard output.
  const said = words || stdout.toString().trim().slice(0, WORDS) || `exit status ${status}`;
  throw new KilnError('install-failed', `${WEAK_MODULES} ${task} failed (${said})`);
};

/** The kernels that have receipts which the other list lacks, and the modules of these. */
const modulesByKernel = (
  some: readonly Receipt[],
  others: readonly Receipt[],
): ReadonlyMap<string, readonly string[]> => {
  const found = new Map<string, readonly string[]>();
  for (const { name, release, modules } of some) {
    if (others.some((each) => each.name === name && each.release === release)) continue;
    const names = modules.map(({ modname }) => modname);
    found.set(release, [...(found.get(release) ?? []), ...names]);
  }
  return found;
};
