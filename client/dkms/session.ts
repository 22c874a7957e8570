import { writeSync } from 'node:fs';
import { machine, release as runningRelease } from 'node:os';
import { valueAt } from '../../services/core/source/dkms-evaluation.ts';
import type { Context } from '../command.ts';
import { readDistribution } from '../host/distribution.ts';
import { namesOnHost } from '../host/host-files.ts';
import type { Host } from '../host/host.ts';
import { plain, writeOutput } from '../terminal/output.ts';
import type { DkmsCall } from './call.ts';
import { DkmsEnd } from './end.ts';
import { evaluateConfs, FRAMEWORK_VARIABLES } from './evaluate.ts';

/** Where dkms keeps what on a host: as its settings and the command line say. */
export interface DkmsPlaces {
  /** `dkms_tree`: sources that were added and what was built of them. */
  readonly tree: string;
  /** `source_tree`: where sources are, as NAME-VERSION. */
  readonly sources: string;
  /** `install_tree`: the directories of kernels. */
  readonly kernels: string;
}

/** One run of dkms. */
export interface DkmsSession {
  readonly context: Context;
  readonly host: Host;
  readonly call: DkmsCall;
  readonly places: DkmsPlaces;
  /** Whether modules are loaded when they are installed for the running kernel. */
  readonly loads: boolean;
  /** The command to run after a change (`post_transaction`); '' for none. */
  readonly postTransaction: string;
  /** A line on standard output. */
  say(line: string): void;
  /** Text on standard output, without an end of line. */
  write(text: string): void;
  /** A line on standard error. */
  complain(line: string): void;
  /** What dkms provides to a dkms.conf. */
  variables(place: {
    readonly module: string;
    readonly version: string;
    readonly release: string;
  }): Readonly<Record<string, string>>;
}

/** Where dkms keeps what, unless its settings say otherwise. */
export const USUAL: DkmsPlaces = {
  tree: '/var/lib/dkms',
  sources: '/usr/src',
  kernels: '/lib/modules',
};

/** The files of dkms's own settings, in the order in which they are read. */
export const frameworkFiles = async (host: Host): Promise<readonly string[]> => {
  const names = await namesOnHost(host, 'etc/dkms/framework.conf.d');
  return [
    '/etc/dkms/framework.conf',
    ...names
      .filter((name) => /^[^.].*\.conf$/.test(name))
      .map((name) => `/etc/dkms/framework.conf.d/${name}`),
  ];
};

/** Opens a run: reads dkms's settings. Throws `DkmsEnd` where a place is one that Kiln does not install to. */
export const openSession = async (
  context: Context,
  host: Host,
  call: DkmsCall,
): Promise<DkmsSession> => {
  const say = (text: string): void => {
    if (!call.isQuiet) writeOutput(plain(text));
  };
  const complain = (line: string): void => {
    if (!call.isQuiet) writeSync(2, `${plain(line)}\n`);
  };
  if ((await readDistribution(host)).length === 0)
    throw new DkmsEnd(4, ['System is missing os-release file.']);
  const [release = runningRelease()] = call.kernels;
  const settings = await evaluateConfs(
    await frameworkFiles(host),
    FRAMEWORK_VARIABLES,
    { kernelver: release, arch: machine() },
    complain,
  );
  const places: DkmsPlaces = {
    tree: call.dkmsTree ?? (valueAt(settings, 'dkms_tree') || USUAL.tree),
    sources: call.sourceHome ?? (valueAt(settings, 'source_tree') || USUAL.sources),
    kernels: call.installTree ?? (valueAt(settings, 'install_tree') || USUAL.kernels),
  };
  for (const [option, place] of [
    ['--dkmstree', places.tree],
    ['--sourcetree', places.sources],
  ] as const)
    if (!/^\/[^\0]+$/.test(place) || place.split('/').includes('..'))
      throw new DkmsEnd(2, [`${option} takes an absolute path without "..", not ${place}.`]);
  if (places.kernels !== '/lib/modules' && places.kernels !== '/usr/lib/modules')
    throw new DkmsEnd(2, [
      `Kiln installs to /lib/modules, where the kernel looks, not to ${places.kernels}.`,
      'Leave --installtree and install_tree out; kiln build -o DIRECTORY writes modules elsewhere.',
    ]);
  return {
    context,
    host,
    call,
    places,
    loads: call.loads || valueAt(settings, 'modprobe_on_install') !== '',
    postTransaction: valueAt(settings, 'post_transaction'),
    say: (line) => say(`${line}\n`),
    write: say,
    complain,
    variables: ({ module, version, release: kernelver }) => {
      const source = call.kernelSource ?? `${places.kernels}/${kernelver}/build`;
      return {
        kernelver,
        kernel_source_dir: source,
        kernel_config: call.kernelConfig ?? `/boot/config-${kernelver}`,
        dkms_tree: places.tree,
        source_tree: places.sources,
        install_tree: places.kernels,
        module,
        module_version: version,
        arch: machine(),
      };
    },
  };
};

/** Tells how a command ended, in dkms's form. */
export const tellEnd = (session: Pick<DkmsSession, 'complain'>, { lines, kind }: DkmsEnd): void => {
  if (lines.length === 0) return;
  const [first = '', ...others] = lines;
  for (const line of [...(kind === 'Error!' ? [''] : []), `${kind} ${first}`, ...others])
    session.complain(line);
};
