import { release as runningRelease } from 'node:os';
import { KilnError } from '../../services/core/errors.ts';
import type { CreateBuild } from '../../services/core/protocol/build.ts';
import { bundleSupply } from '../install/bundle.ts';
import type { Command, Context } from '../command.ts';
import { chooseRelease, hostKernels, type Host } from '../host/host.ts';
import { installAll } from '../install/install.ts';
import { INSTALL_DIRECTORY } from '../installed/receipts.ts';
import { serviceSupply, type Supply } from '../install/supply.ts';
import { loadModules, readParameters, type Loaded, type Parameters } from '../install/load.ts';
import { readCertificate } from '../installed/verify.ts';
import type { Wanted } from '../installed/wanted.ts';
import type { Granted, InstallTerms, Wish } from '../install/wish.ts';
import { BUILD_OPTIONS, namedRequest } from './request.ts';
import { tellGranted } from './tell-granted.ts';

/** The terms of an installation, from a command's options and the configuration. */
export const termsOf = async (
  context: Context,
  wanted: InstallTerms['wanted'],
  supply: Supply = serviceSupply(context, context.config.server),
): Promise<InstallTerms> => {
  const allowUnsigned = context.flag('allow-unsigned') || context.config.allowUnsigned;
  const certificate = readCertificate(context.config.certificate);
  return {
    supply,
    certificate: await (allowUnsigned ? certificate.catch(() => null) : certificate),
    allowUnsigned,
    force: context.flag('force'),
    forgetWithdrawals: context.flag('allow-withdrawn'),
    keepDisplaced: true,
    weakUpdates: context.config.weakUpdates && context.option('bundle') === undefined,
    wanted,
    initramfs: context.config.initramfs && !context.flag('no-initramfs'),
  };
};

/** Kernels that `-k`, given once or more often, or `--all-kernels` names; the running one otherwise. */
const namedKernels = async (context: Context, host: Host): Promise<readonly string[]> => {
  if (context.flag('all-kernels')) return hostKernels(host);
  const named = context.options('kernel');
  return named.length > 0 ? named : [await chooseRelease(host, undefined)];
};

/** The parameters that modules are loaded with; `null` where none is to be loaded. Throws `bad-request` where they cannot be. */
const loadingOf = (
  context: Context,
  host: Host,
  releases: readonly string[],
): Parameters | null => {
  const given = context.options('parameter');
  if (!context.flag('load')) {
    if (given.length === 0) return null;
    throw new KilnError('bad-request', '--parameter is for loading; add --load');
  }
  if (host.root !== '/' || !releases.includes(runningRelease()))
    throw new KilnError(
      'bad-request',
      `--load loads into the running kernel, ${runningRelease()}; leave out --load, or --root and -k`,
    );
  return readParameters(given);
};

/** Loads what was installed for the running kernel. */
const loadGranted = (
  granted: readonly Granted[],
  parameters: Parameters,
): Promise<readonly Loaded[]> =>
  loadModules(
    granted.flatMap(({ release, receipt }) =>
      release === runningRelease() && receipt !== null ? [receipt] : [],
    ),
    parameters,
  );

const asWanted = (
  name: string,
  { source, toolchain, waive = [], settings = {} }: CreateBuild,
): Wanted[number] => ({
  name,
  version: 'name' in source ? (source.version ?? null) : null,
  how: { waive, settings, ...(toolchain === undefined ? {} : { toolchain }) },
});

export const install: Command = {
  name: 'install',
  args: 'SOURCE…',
  summary: 'get modules built, verify and install them: all or nothing',
  help: `Everything is fetched and verified first: digests, signatures and provenance against the pinned certificate, names, vermagic.
Then all modules are laid down in one transaction, compressed as the kernel's own are, to /lib/modules/RELEASE/${INSTALL_DIRECTORY};
depmod runs once for each kernel, and the initramfs is made anew if it holds one of them. If a step fails, or the machine dies,
all is as it was. One that cannot be had does not keep the others. What is installed by NAME is wanted from then on: kernels that
come get it, too (kiln autoinstall).

  -k, --kernel RELEASE   default: the running kernel, or the only one below --root; may be repeated
      --all-kernels      every kernel of this host
      --bundle FILE      from a file that kiln bundle made; no service is asked
      --root DIR         install into another root
      --allow-downgrade  also an older version than this host has
      --allow-withdrawn  also what this host knows as withdrawn, where the service no longer says so: an admin took that back
      --force            also where the kernel's own module is the same or newer
      --allow-unsigned   install also what policy left unsigned
      --no-initramfs     leave initramfs images alone
      --load             then load what was installed into the running kernel, and say what is not in it after that
      --parameter MODULE.NAME=VALUE   load a module with a parameter; may be repeated
      --name, --version, --toolchain, --retry   as for kiln build`,
  options: {
    ...BUILD_OPTIONS,
    kernel: { type: 'string', short: 'k', multiple: true },
    'all-kernels': { type: 'boolean' },
    bundle: { type: 'string' },
    force: { type: 'boolean' },
    'allow-downgrade': { type: 'boolean' },
    'allow-withdrawn': { type: 'boolean' },
    'allow-unsigned': { type: 'boolean' },
    'no-initramfs': { type: 'boolean' },
    load: { type: 'boolean' },
    parameter: { type: 'string', multiple: true },
    log: { type: 'boolean' },
  },
  async run(context) {
    if (context.args.length === 0)
      throw new KilnError('bad-request', 'name what to install: NAME[/VERSION], or a directory');
    const host = await context.host();
    const started = performance.now();
    const wishes: Wish[] = [];
    const releases = await namedKernels(context, host);
    const parameters = loadingOf(context, host, releases);
    for (const source of context.args)
      for (const release of releases) {
        const request = await namedRequest(context, source, release);
        const name = 'name' in request.source ? request.source.name : null;
        const mayGoDown = context.flag('allow-downgrade');
        wishes.push({ name, release, request, mayGoDown });
      }
    const bundle = context.option('bundle');
    const wanted = wishes.flatMap(({ name, request }) =>
      name === null ? [] : [asWanted(name, request)],
    );
    const terms = await termsOf(
      context,
      wanted,
      bundle === undefined ? undefined : await bundleSupply(bundle),
    );
    const granted = await installAll(context, host, wishes, terms);
    const seconds = (performance.now() - started) / 1000;
    const loaded = parameters === null ? [] : await loadGranted(granted, parameters);
    tellGranted(context, granted, seconds, loaded);
  },
};
