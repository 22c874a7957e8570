import { readFileSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { connectDocker, type ContainerEngine } from '../../services/builder/docker.ts';
import {
  createSandbox,
  layMachine,
  SandboxLimitReached,
  type SandboxRun,
} from '../../services/builder/sandbox.ts';
import { DEFAULT_BUILD_USERS, parseBuildUsers } from '../../services/core/sandbox/build-users.ts';
import { isDigest } from '../../services/core/digest.ts';
import type { SandboxLimits } from '../../services/core/sandbox/limits.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { CHECKOUT } from '../machine/places.ts';
import { mustRun } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';
import { until } from '../machine/until.ts';

const MiB = 1024 ** 2;
/** The time is beyond what any of this takes on a busy machine; what is to run out of it has its own. */
const LIMITS: SandboxLimits = {
  seconds: 300,
  memory: 256 * MiB,
  disk: 32 * MiB,
  log: MiB,
  output: MiB,
  pids: 64,
  cpus: 1,
};

const SETTINGS = {
  runtime: 'runc',
  users: parseBuildUsers(DEFAULT_BUILD_USERS),
  seccomp: readFileSync(join(CHECKOUT, 'images/seccomp.json'), 'utf8'),
};

const RUN = {
  args: [],
  environment: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
  mounts: [],
  workplaces: ['/var/lib/dkms/build'],
  labels: {},
} as const;

describe('the sandbox', () => {
  const label = `sandbox-test-${process.pid}`;
  let engine: ContainerEngine;
  let image: string;
  let input: string;
  let machine: Awaited<ReturnType<typeof layMachine>>;

  beforeAll(async () => {
    engine = connectDocker('/var/run/docker.sock');
    const { toolchain } = sharedKiln();
    image = (isDigest(toolchain) ? await engine.findImage(toolchain) : null) ?? '';
    input = await freshDirectory('input');
    machine = await layMachine(await freshDirectory('machine'), LIMITS);
    await writeFile(join(input, 'file'), 'as it was\n');
  });

  /** Runs a script; what it wrote to stdout, and how it ended. */
  const runScript = async (
    script: string,
    limits: Partial<SandboxLimits> = {},
    signal = AbortSignal.timeout(300_000),
  ) => {
    const sandbox = createSandbox(engine, {
      limits: { ...LIMITS, ...limits },
      ...SETTINGS,
      machine,
      builder: label,
    });
    const pieces: Buffer[] = [];
    const run: SandboxRun = { ...RUN, image, script, mounts: [{ from: input, at: '/input' }] };
    const end = await sandbox.run(
      run,
      { log: () => {}, output: (piece) => void pieces.push(Buffer.from(piece)) },
      signal,
    );
    return { ...end, output: Buffer.concat(pieces).toString() };
  };

  const runningContainers = async (...options: readonly string[]): Promise<string> =>
    mustRun('docker', ['ps', '-q', ...options, '--filter', `label=kiln.builder=${label}`]);
  const untilItRuns = (): Promise<void> =>
    until('its container runs', async () => (await runningContainers()) !== '');
  const leftContainers = (): Promise<string> => runningContainers('-a');

  it('has no network but a loopback', async () => {
    const { output } = await runScript(
      'tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d " "; (exec 3<>/dev/tcp/127.0.0.1/6379) 2>/dev/null && echo reached; cat /proc/net/route | wc -l',
    );
    expect(output).toBe('lo\n1\n');
  });

  it('runs as an ordinary user without capabilities, new privileges or an unfiltered system call', async () => {
    const { output } = await runScript(
      '[ "$(id -u):$(id -g):$(id -G)" = "$(id -u):$(id -u):$(id -u)" ] && id -u; grep -E "^(CapEff|CapBnd|CapPrm|NoNewPrivs|Seccomp):" /proc/self/status',
    );
    expect(output.replaceAll('\t', ' ').replace(/^(21000000)\d\d$/m, '$1xx')).toBe(
      '21000000xx\nCapPrm: 0000000000000000\nCapEff: 0000000000000000\nCapBnd: 0000000000000000\nNoNewPrivs: 1\nSeccomp: 2\n',
    );
  });

  it('gives each run of any builder on this Docker a user of its own', async () => {
    const both = 'id -u; sleep infinity';
    const told = new AbortController();
    const seen: string[] = [];
    const runs = ['one', 'other'].map((builder) =>
      createSandbox(connectDocker('/var/run/docker.sock'), {
        limits: LIMITS,
        ...SETTINGS,
        machine,
        builder: `${label}-${builder}`,
      }).run(
        { ...RUN, image, script: both },
        {
          log: () => {},
          output: (piece) => {
            seen.push(piece.toString().trim());
            if (seen.length === 2) told.abort(new Error('seen'));
          },
        },
        told.signal,
      ),
    );
    // Both are listened to from the start: a rejection that nobody awaits yet would fail the test.
    const ends = await Promise.allSettled(runs);
    expect(ends).toEqual(ends.map(() => ({ status: 'rejected', reason: new Error('seen') })));
    expect(new Set(seen).size).toBe(2);
  });

  it('can write its own scratch and nothing else, its inputs least of all', async () => {
    const { output } = await runScript(`
      for place in / /usr /etc /usr/src /input /input/file /var/lib/dkms /dev/shm; do
        (echo x >> $place/x || echo x >> $place) 2>/dev/null && echo "wrote $place"
      done
      echo x > /tmp/x && echo x > /var/lib/dkms/build/x && echo scratch`);
    expect(output).toBe('scratch\n');
    expect(await readFile(join(input, 'file'), 'utf8')).toBe('as it was\n');
  });

  it('sees nothing of the service: no socket, no key, no token, no other build, no host name', async () => {
    const { output } = await runScript(`
      hostname; env | grep -c KILN; find / -xdev \\( -name docker.sock -o -name '*.token' -o -name signing.pem \\) 2>/dev/null; ls -A /var/lib/dkms`);
    expect(output).toBe('kiln\n0\nbuild\n');
  });

  it('tells of the CPUs and the memory that a run may use, not of the host’s', async () => {
    const { output } = await runScript(`
      grep -c ^processor /proc/cpuinfo; grep -c '^cpu[0-9]' /proc/stat; sed -n 's/ \\+/ /g; /^MemTotal/p' /proc/meminfo
      sed -n '/^btime/p' /proc/stat; (echo x >>/proc/cpuinfo) 2>/dev/null || echo fixed
      cat /proc/cpuinfo`);
    const cpu = await readFile('/proc/cpuinfo', 'utf8');
    expect(output).toMatch(/^1\n1\nMemTotal: 262144 kB\nbtime 1000000000\nfixed\nprocessor\t: 0\n/);
    for (const fact of ['vendor_id', 'model name', 'flags', 'microcode']) {
      const own = new RegExp(`^${fact}\\s*: .*$`, 'm').exec(cpu)?.[0] ?? 'none';
      expect(output).not.toContain(own);
    }
  });

  it('ends what takes too long', async () => {
    await expect(
      runScript('trap "" TERM; while :; do :; done', { seconds: 1 }),
    ).rejects.toMatchObject({ limit: 'time' });
  });

  it('ends what prints without end', async () => {
    await expect(runScript('yes >&2')).rejects.toBeInstanceOf(SandboxLimitReached);
    await expect(runScript('yes')).rejects.toMatchObject({ limit: 'output' });
  });

  it('keeps a fork bomb, a full disk and a hunger for memory inside', async () => {
    const bomb = await runScript(
      'bomb() { bomb | bomb & }; bomb 2>/dev/null; sleep 1; echo alive',
      { seconds: 10 },
    ).catch((error: unknown) => error);
    expect(bomb).toBeDefined();
    const disk = await runScript(
      'dd if=/dev/zero of=/var/lib/dkms/build/x bs=1M count=64 2>/dev/null; stat -c %s /var/lib/dkms/build/x',
    );
    expect(Number(disk.output)).toBeLessThanOrEqual(LIMITS.disk);
    const memory = await runScript('a=x; while :; do a=$a$a$a$a; done', { memory: 64 * MiB });
    expect(memory).toMatchObject({ isOutOfMemory: true });
  });

  it('ends when it is told to', async () => {
    const told = new AbortController();
    const ended = expect(runScript('sleep infinity', {}, told.signal)).rejects.toThrow('told to');
    await untilItRuns();
    told.abort(new Error('told to'));
    await ended;
  });

  it('has no exit status where another run removes its container', async () => {
    const ends = runScript('sleep infinity');
    const rejected = expect(ends).rejects.toThrow('removed from outside');
    await untilItRuns();
    await engine.removeLabelled(`kiln.builder=${label}`);
    await rejected;
  });

  it('leaves no container behind, whichever way it ended', async () => {
    expect(await leftContainers()).toBe('');
  });
});
