import { mkdir, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Duplex } from 'node:stream';
import { BUILD_HOST } from '../core/build/build-environment.ts';
import { buildMachine } from '../core/sandbox/build-machine.ts';
import type { BuildUsers } from '../core/sandbox/build-users.ts';
import type { SandboxLimits } from '../core/sandbox/limits.ts';
import type { ContainerEnd, ContainerEngine, OutputHandler } from './docker.ts';
import type { Mount } from './tree-cache.ts';

/** The failure where a run hit one of its limits. */
export class SandboxLimitReached extends Error {
  readonly limit: 'time' | 'log' | 'output';

  constructor(limit: 'time' | 'log' | 'output', message: string) {
    super(message);
    this.name = 'SandboxLimitReached';
    this.limit = limit;
  }
}

/** One run: a script and its arguments, in an image, with what it may see. */
export interface SandboxRun {
  readonly image: string;
  readonly script: string;
  readonly args: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly mounts: readonly Mount[];
  /** Directories that the run may fill, each up to the disk limit. */
  readonly workplaces: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
}

/** Where a run's output goes. */
export interface SandboxOutput {
  log(piece: Buffer): void | Promise<void>;
  output(piece: Buffer, input: Duplex): void | Promise<void>;
}

/** The sandbox for hostile code: no network, no capability, nothing writable but its own memory, and a limit on everything. */
export interface Sandbox {
  /** Rejects with `SandboxLimitReached`, or with the signal's reason. The container is gone either way. */
  run(run: SandboxRun, output: SandboxOutput, signal: AbortSignal): Promise<ContainerEnd>;
  /** Removes containers that runs with this label have left; without a label, those of this builder before its restart. */
  clear(label?: string): Promise<void>;
}

/** The settings of all of a builder's runs. */
export interface SandboxSettings {
  readonly limits: SandboxLimits;
  /** Files that stand in for those of `/proc` by which programs count CPUs and memory (see `layMachine`). */
  readonly machine: readonly Mount[];
  readonly runtime: string;
  readonly users: BuildUsers;
  /** `images/seccomp.json`. */
  readonly seccomp: string;
  /** The directory of the builder's cache, which no other builder on this Docker has. */
  readonly builder: string;
}

const TMP_SHARE = 4;

/** Paths in `/proc` and `/sys` that tell about the host, and are hidden. A path that a host does not have does no harm here. */
const HIDDEN: readonly string[] = [
  ...[
    'acpi asound buddyinfo bus cgroups cmdline config.gz consoles crypto device-tree devices diskstats driver dynamic_debug',
    'execdomains fb fs interrupts iomem ioports irq kallsyms kcore key-users keys kmsg kpagecgroup kpagecount kpageflags latency_stats',
    'loadavg locks mdstat misc modules mtrr pagetypeinfo partitions pressure sched_debug schedstat scsi slabinfo softirqs swaps',
    'sysrq-trigger timer_list timer_stats tty uptime version version_signature vmallocinfo vmstat zoneinfo',
    'sys/kernel/osrelease sys/kernel/version sys/kernel/random/boot_id',
  ]
    .join(' ')
    .split(' ')
    .map((name) => `/proc/${name}`),
  '/sys',
];

/** Writes the files that describe the machine of builds below a directory that Docker sees at the same path; the mounts of them. */
export const layMachine = async (
  directory: string,
  limits: SandboxLimits,
): Promise<readonly Mount[]> => {
  const mounts: Mount[] = [];
  for (const [at, text] of Object.entries(buildMachine(limits))) {
    const from = join(directory, basename(at));
    await mkdir(directory, { recursive: true });
    await writeFile(from, text);
    mounts.push({ from, at });
  }
  return mounts;
};

export const createSandbox = (
  engine: ContainerEngine,
  { limits, machine, runtime, users, seccomp, builder }: SandboxSettings,
): Sandbox => ({
  clear: (label) => engine.removeLabelled(label ?? `kiln.builder=${builder}`),

  async run(run, output, signal) {
    const tooLong = AbortSignal.timeout(limits.seconds * 1000);
    const ended = AbortSignal.any([signal, tooLong]);
    let [logged, put] = [0, 0];
    const onOutput: OutputHandler = (channel, piece, input) => {
      if (channel === 'stderr') {
        logged += piece.length;
        if (logged > limits.log)
          throw new SandboxLimitReached('log', `the build wrote over ${limits.log} bytes of log`);
        return output.log(piece);
      }
      put += piece.length;
      if (put > limits.output)
        throw new SandboxLimitReached('output', `the build handed out over ${limits.output} bytes`);
      return output.output(piece, input);
    };
    const spec = {
      image: run.image,
      command: ['/bin/bash', '-c', run.script, 'kiln', ...run.args],
      users,
      hidden: HIDDEN,
      seccomp,
      hostname: BUILD_HOST,
      environment: run.environment,
      mounts: [...machine, ...run.mounts],
      scratch: [
        { at: '/tmp', size: Math.ceil(limits.disk / TMP_SHARE) },
        ...run.workplaces.map((at) => ({ at, size: limits.disk })),
      ],
      memory: limits.memory,
      pids: limits.pids,
      cpus: limits.cpus,
      labels: { ...run.labels, 'kiln.builder': builder },
      runtime,
    };
    try {
      return await engine.run(spec, onOutput, ended);
    } catch (error) {
      if (tooLong.aborted && !signal.aborted) {
        throw new SandboxLimitReached('time', `the build took over ${limits.seconds} seconds`);
      }
      throw error;
    }
  },
});
