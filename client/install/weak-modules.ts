import { KilnError } from '../../services/core/errors.ts';
import type { Change } from '../transaction/change.ts';
import type { Context } from '../command.ts';
import type { Host } from '../host/host.ts';
import { hasProgram, runOn } from '../host/programs.ts';
import { listReceipts, type Receipt } from '../installed/receipts.ts';

const WEAK_MODULES = 'weak-modules';
/** Bytes of `weak-modules`' standard output: far more than it writes, since it is killed at the limit. */
const OUTPUT_LIMIT = 1024 ** 2;
/** Characters of its standard output that an error message repeats. */
const WORDS = 500;
/** A module that was built for its kernel, not linked there. */
const BUILT_MODULE = /^lib\/modules\/[^/]+\/updates\/.+\.ko(\.gz|\.xz|\.zst)?$/;

/**
 * Tells Enterprise Linux's `weak-modules`, where the host has it, which modules a transaction added and removed: it links added modules to
 * other kernels that they fit, and drops links to removed ones. Gives the kernels whose links have changed, with the modules; their
 * indexes are up to date. Throws `install-failed` with the program's own words.
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

/** Runs depmod for a kernel that `weak-modules` has changed: its own run of depmod needs a `System.map`, and it does not report a failure. */
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
  // It writes its errors to standard output.
  const said = words || stdout.toString().trim().slice(0, WORDS) || `exit status ${status}`;
  throw new KilnError('install-failed', `${WEAK_MODULES} ${task} failed (${said})`);
};

/** The modules, by kernel, of receipts that the other list lacks. */
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
