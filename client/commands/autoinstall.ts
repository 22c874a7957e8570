import { KilnError } from '../../services/core/errors.ts';
import type { Command, Context } from '../command.ts';
import { chooseRelease, hostKernels, type Host } from '../host/host.ts';
import { followGuard } from '../install/change-host.ts';
import { installAll } from '../install/install.ts';
import { removeAll } from '../install/remove.ts';
import { plain } from '../terminal/output.ts';
import { listReceipts } from '../installed/receipts.ts';
import { asUnproven, isStillProven } from '../installed/weak-updates.ts';
import { markStale, standings, withRequests, type Standing } from '../installed/standing.ts';
import { bringUpDkms, leaveKernels } from '../dkms/bring-up.ts';
import { readWanted } from '../installed/wanted.ts';
import type { Granted, Wish } from '../install/wish.ts';
import { termsOf } from './install.ts';
import { tellGranted } from './tell-granted.ts';

const HOOK_HELP = `      --hook             for package managers and units: nothing that fails ends with an error`;

const autoinstall: Command = {
  name: 'autoinstall',
  args: '',
  summary: 'bring kernels of this host to what is wanted: what is missing or stale is installed',
  help: `Package managers' hooks run it for a kernel that comes, kiln-autoinstall.service for what was missed.
"autoinstall = no" and "skip-kernels = *-rt-*" in the configuration keep hooks and unit from it.

  -k, --kernel RELEASE   default: the running kernel, or the only one below --root; may be repeated
      --all              every kernel of this host
      --allow-downgrade  also to an older version than this host has, where the newer ones were withdrawn, say
${HOOK_HELP}
      --root DIR         in another root`,
  options: {
    kernel: { type: 'string', short: 'k', multiple: true },
    all: { type: 'boolean' },
    'allow-downgrade': { type: 'boolean' },
    hook: { type: 'boolean' },
  },
  run: (context) =>
    asHook(context, 'kiln-autoinstall.service tries again', async () => {
      const host = await context.host();
      const named = context.options('kernel');
      const meant = context.flag('all')
        ? await hostKernels(host)
        : named.length > 0
          ? named
          : [await chooseRelease(host, undefined)];
      const releases = meant.filter((release) => !isLeftAlone(context, release));
      const started = performance.now();
      const granted = [
        ...(await bringUp(context, host, releases)),
        ...(await bringUpDkms(context, host, releases)),
      ];
      // The guard is asked even where nothing was installed: a kernel may have become complete in another way.
      await followGuard(context, host);
      if (granted.length === 0) {
        context.progress.done();
        context.print('nothing to do', { installed: [], problems: [] });
        return;
      }
      tellGranted(context, granted, (performance.now() - started) / 1000);
    }),
};

const autoremove: Command = {
  name: 'autoremove',
  args: '',
  summary: 'take away all that was installed for a kernel that goes',
  help: `Links from other kernels to its modules go, too; those kernels get modules of their own at once.

  -k, --kernel RELEASE   the kernel; may be repeated
${HOOK_HELP}
      --root DIR         in another root`,
  options: {
    kernel: { type: 'string', short: 'k', multiple: true },
    hook: { type: 'boolean' },
  },
  run: (context) =>
    asHook(context, 'kiln autoremove -k RELEASE takes it away', async () => {
      const host = await context.host();
      const releases = context.options('kernel');
      if (releases.length === 0) throw new KilnError('bad-request', 'name a kernel with -k');
      await leaveKernels(context, host, releases);
      const { receipts } = await listReceipts(host);
      const going = receipts.filter(({ release }) => releases.includes(release));
      if (going.length === 0) {
        context.print('nothing to do', { removed: [] });
        return;
      }
      const bereft = receipts.filter(
        ({ release, linkedFrom }) =>
          linkedFrom !== null && releases.includes(linkedFrom) && !releases.includes(release),
      );
      const went = await removeAll(context, host, going, { forget: [], initramfs: false });
      context.print(
        went.map((each) => `removed ${each.name}/${each.version} from ${each.release}`).join('\n'),
        { removed: went },
      );
      const left = [...new Set(bereft.map(({ release }) => release))];
      if (left.length > 0) {
        const granted = await bringUp(context, host, left);
        tellGranted(context, granted, 0);
      }
    }),
};

/** Whether the configuration (`skip-kernels`) has hooks and timer leave a kernel alone. A kernel named on the command line is never left alone. */
const isLeftAlone = (context: Context, release: string): boolean => {
  const { autoinstall: isWanted, skipKernels } = context.config;
  if (!context.flag('hook')) return false;
  return !isWanted || skipKernels.some((pattern) => patternOf(pattern).test(release));
};

const patternOf = (pattern: string): RegExp =>
  new RegExp(
    `^${pattern
      .split('*')
      .map((text) => text.replaceAll(/[^A-Za-z0-9]/g, String.raw`\$&`))
      .join('.*')}$`,
  );

/** Installs what some kernels lack, and installs anew what is stale. */
const bringUp = async (
  context: Context,
  host: Host,
  releases: readonly string[],
): Promise<readonly Granted[]> => {
  const wanted = await readWanted(host);
  const rows = (await standings(host)).filter(
    ({ name, release }) => releases.includes(release) && wanted.some((each) => each.name === name),
  );
  if (rows.length === 0) return [];
  const known = await markStale(host, context.service, rows);
  const lacking: Standing[] = [];
  for (const row of known) {
    if (row.older !== null && !context.flag('allow-downgrade'))
      context.progress.say(`${row.name} for ${row.release}: ${row.because.join('; ')}`);
    else if (row.older !== null || (await isLacking(context, host, row))) lacking.push(row);
  }
  const wishes = (await withRequests(host, lacking)).map(({ row, request }): Wish => ({
    name: row.name,
    release: row.release,
    request,
    // A version that was asked for by name may be an older one.
    mayGoDown:
      context.flag('allow-downgrade') ||
      wanted.some((each) => each.name === row.name && each.version !== null),
  }));
  const terms = await termsOf(context, []);
  if (wishes.length === 0) return [];
  const { receipts: before } = await listReceipts(host);
  const granted = await installAll(context, host, wishes, terms);
  // Replaced modules take their links from other kernels with them: those kernels get new ones at once.
  const { receipts: after } = await listReceipts(host);
  const bereft = before.filter(
    ({ name, release, linkedFrom }) =>
      linkedFrom !== null && !after.some((each) => each.name === name && each.release === release),
  );
  if (bereft.length === 0) return granted;
  return [
    ...granted,
    ...(await bringUp(
      context,
      host,
      bereft.map(({ release }) => release),
    )),
  ];
};

const isLacking = async (context: Context, host: Host, row: Standing): Promise<boolean> => {
  if (row.state === 'linked' && row.receipt !== null)
    return !(await isStillProven(host, context.service, row.receipt).catch(asUnproven));
  return row.state !== 'installed' && row.state !== 'overridden';
};

/** Under `--hook` a failure is one line: the package manager's run goes on. */
const asHook = async (context: Context, next: string, work: () => Promise<void>): Promise<void> => {
  try {
    await work();
  } catch (error) {
    if (!context.flag('hook') || !(error instanceof KilnError)) throw error;
    context.progress.done();
    process.stderr.write(`kiln: ${plain(error.message)}; ${next}\n`);
  }
};

export const AUTOINSTALL_COMMANDS: readonly Command[] = [autoinstall, autoremove];
