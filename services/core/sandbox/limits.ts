/** What one run in the sandbox may use. Each is a setting with this default. */
export interface SandboxLimits {
  /** Wall-clock seconds. */
  readonly seconds: number;
  /** Bytes of memory, the build's files (a tmpfs) included. */
  readonly memory: number;
  /** Bytes of files in the build directory. */
  readonly disk: number;
  /** Bytes of log. */
  readonly log: number;
  /** Bytes of output: all modules together. */
  readonly output: number;
  /** Processes and threads at once. */
  readonly pids: number;
  /** CPUs, and make's parallelism. */
  readonly cpus: number;
}

const MiB = 1024 ** 2;

/** Room for the largest modules there are (zfs builds in 1.2 GB), on any machine. `cpus` is the machine's. */
export const DEFAULT_SANDBOX_LIMITS: Omit<SandboxLimits, 'cpus'> = {
  seconds: 1800,
  memory: 4096 * MiB,
  disk: 2048 * MiB,
  log: 64 * MiB,
  output: 512 * MiB,
  pids: 1024,
};
