import { SOURCE_DATE_EPOCH } from '../build/build-environment.ts';
import type { SandboxLimits } from './limits.ts';

/**
 * The machine that a build is told it runs on, as the files of `/proc` say it (proc(5)): the CPUs and the memory that it may use, and
 * nothing of the host's own. Texts by path. Makefiles count the lines `processor`, and choose instructions by `flags`: these are what
 * every x86_64 has, so that no module is made for the CPU of the host that built it.
 */
export const buildMachine = ({
  cpus,
  memory,
}: Pick<SandboxLimits, 'cpus' | 'memory'>): Readonly<Record<string, string>> => {
  const processors = Array.from({ length: Math.max(1, Math.ceil(cpus)) }, (_, index) => index);
  const kilobytes = Math.floor(memory / 1024);
  const amounts = { MemTotal: kilobytes, MemFree: kilobytes, MemAvailable: kilobytes, ...NONE };
  return {
    '/proc/cpuinfo': processors.map((index) => processor(index, processors.length)).join('\n'),
    '/proc/meminfo': Object.entries(amounts)
      .map(([name, amount]) => `${`${name}:`.padEnd(16)}${String(amount).padStart(8)} kB\n`)
      .join(''),
    '/proc/stat': [
      `cpu  ${IDLE}`,
      ...processors.map((index) => `cpu${index} ${IDLE}`),
      'intr 0',
      'ctxt 0',
      `btime ${SOURCE_DATE_EPOCH}`,
      'processes 1',
      'procs_running 1',
      'procs_blocked 0',
      '',
    ].join('\n'),
  };
};

const NONE = { Buffers: 0, Cached: 0, SwapCached: 0, SwapTotal: 0, SwapFree: 0 };
/** A CPU that has done nothing for a second, in hundredths. */
const IDLE = '0 0 0 100 0 0 0 0 0 0';

const processor = (index: number, count: number): string =>
  [
    ['processor', index],
    ['vendor_id', 'Kiln'],
    ['cpu family', 6],
    ['model', 0],
    ['model name', 'x86-64'],
    ['stepping', 0],
    ['cpu MHz', '1000.000'],
    ['cache size', '1024 KB'],
    ['physical id', 0],
    ['siblings', count],
    ['core id', index],
    ['cpu cores', count],
    ['fpu', 'yes'],
    ['flags', 'fpu tsc cx8 cmov mmx fxsr sse sse2 syscall nx lm'],
    ['bogomips', '2000.00'],
    ['clflush size', 64],
    ['address sizes', '40 bits physical, 48 bits virtual'],
  ]
    .map(([name, value]) => `${name}\t: ${value}\n`)
    .join('');
