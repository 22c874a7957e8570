import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { firmwareArguments, signForFirmware, writeFirmwareKey } from './firmware.ts';
import { guestAgent, type GuestAgent } from './guest-agent.ts';
import { guestDisk } from './guest-disk.ts';
import { WORK } from './places.ts';
import { mustRun, type Ran } from './run.ts';

/**
 * A minimal Debian 12 host under emulation, with Secure Boot on. It has a disk of its own, systemd, Debian's signed kernel, and a
 * network in which this machine's loopback is 10.0.2.2; no compiler, headers or Node.
 */
export interface Guest {
  /** This machine's directory that the guest sees, read-only, at `/host`. */
  readonly shared: string;
  /** Starts the kernel and initrd that the guest's own `/boot` has for the release (the last one booted, if none is named). */
  boot(release?: string): Promise<void>;
  /** Runs a shell script as root, to its end, but `seconds` (300) at most. Throws when the guest ends meanwhile. */
  run(script: string, seconds?: number): Promise<Ran>;
  /** The same for a script that must succeed; its standard output. */
  mustRun(script: string, seconds?: number): Promise<string>;
  /** Switches off as `poweroff` does: services are stopped, the disk is unmounted. */
  shutdown(): Promise<void>;
  /** A clean shutdown, then a boot. */
  reboot(release?: string): Promise<void>;
  /** Power loss: what the guest has not written to its disk by now is gone. One that is off stays off. */
  cut(): Promise<void>;
  /** What the last boot wrote to its serial console. */
  console(): Promise<string>;
}

/** How long a boot and a shutdown may take, in seconds: some ten times what they take on an idle machine. */
const BOOT = 600;
const SHUTDOWN = 120;

/**
 * However the test ends, its guest does not outlive it. The processor has no AVX: what qemu 7.2 emulates of it does not bring systemd
 * up each time. The agent speaks through qemu's standard input and output.
 */
const START =
  `--pdeathsig KILL qemu-system-x86_64 -cpu Nehalem -smp 1 -m 1024 -nodefaults -no-reboot -display none
  -nic user,model=virtio-net-pci -device virtio-rng-pci -chardev stdio,id=agent,signal=off
  -device virtio-serial-pci -device virtserialport,chardev=agent,name=kiln.guest`.split(/\s+/);

interface Running {
  readonly machine: ChildProcess;
  readonly ended: Promise<unknown>;
  readonly agent: GuestAgent;
}

/** Makes a host with a kernel of the release, switched off, below `.kiln/guest/NAME`; one that was there before is replaced. */
export const makeGuest = async (name: string, release: string): Promise<Guest> => {
  const directory = join(WORK, 'guest', name);
  const disk = join(directory, 'disk.img');
  const shared = join(directory, 'host');
  const log = join(directory, 'console.log');
  await rm(directory, { recursive: true, force: true });
  await mkdir(shared, { recursive: true });
  await mustRun('cp', ['--sparse=always', await guestDisk(release), disk]);
  await writeFirmwareKey(join(directory, 'firmware.key'));
  let current = release;
  let running: Running | null = null;

  const console = async (): Promise<string> =>
    (await readFile(log, 'utf8').catch(() => '')).replaceAll('\r', '');

  const whenOn = (): Running => {
    if (running === null) throw new Error(`the guest ${name} is switched off`);
    return running;
  };

  const within = async <T>(seconds: number, what: string, act: Promise<T>): Promise<T> => {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`${what} took over ${seconds} s`)), seconds * 1000);
    });
    try {
      return await Promise.race([act, late]);
    } catch (error) {
      const tail = (await console()).split('\n').slice(-25).join('\n');
      throw new Error(`${(error as Error).message}; the guest ${name}’s console ends:\n${tail}`, {
        cause: error,
      });
    } finally {
      clearTimeout(timer);
    }
  };

  /** Reads the release's kernel and initrd out of the disk, as a boot loader does. */
  const readBoot = async (): Promise<{ kernel: string; initrd: string }> => {
    // After a power loss, what was written last is in the journal alone.
    await mustRun('sh', ['-c', 'e2fsck -y -E journal_only "$1" || [ $? = 1 ]', 'sh', disk]);
    const [vmlinuz, initrd] = [join(directory, 'vmlinuz'), join(directory, 'initrd.img')];
    for (const [path, to] of [
      [`/boot/vmlinuz-${current}`, vmlinuz],
      [`/boot/initrd.img-${current}`, initrd],
    ] as const) {
      await rm(to, { force: true });
      await mustRun('debugfs', ['-R', `dump ${path} ${to}`, disk]);
      if (((await stat(to).catch(() => null))?.size ?? 0) === 0)
        throw new Error(`the guest ${name} has no ${path}`);
    }
    const kernel = join(directory, 'vmlinuz.signed');
    await signForFirmware(join(directory, 'firmware.key'), vmlinuz, kernel);
    return { kernel, initrd };
  };

  const start = async (): Promise<Running> => {
    const { kernel, initrd } = await readBoot();
    const machine = spawn(
      'setpriv',
      [
        ...START,
        ...(await firmwareArguments(directory)),
        '-serial',
        `file:${log}`,
        '-drive',
        `if=virtio,format=raw,file=${disk}`,
        '-virtfs',
        `local,path=${shared},mount_tag=host,security_model=none,readonly=on`,
        '-kernel',
        kernel,
        '-initrd',
        initrd,
        '-append',
        'root=/dev/vda console=ttyS0 net.ifnames=0 loglevel=5 nowatchdog panic=-1',
      ],
      { stdio: ['pipe', 'pipe', 'pipe'] },
    );
    const complaints: string[] = [];
    machine.stderr.on('data', (piece: Buffer) => complaints.push(piece.toString('utf8')));
    return {
      machine,
      ended: once(machine, 'exit'),
      agent: guestAgent(
        machine.stdin,
        machine.stdout,
        () => `the guest ${name} has ended ${complaints.join('')}`,
      ),
    };
  };

  const guest: Guest = {
    shared,
    console,
    async boot(wanted = current) {
      if (running !== null) throw new Error(`the guest ${name} is on already`);
      current = wanted;
      running = await start();
      await within(BOOT, 'the boot', running.agent.ready());
    },
    run: (script, seconds = 300) => within(seconds, `“${script}”`, whenOn().agent.run(script)),
    async mustRun(script, seconds) {
      const { status, stdout, stderr } = await guest.run(script, seconds);
      if (status !== 0) throw new Error(`“${script}” ended with ${status}:\n${stderr || stdout}`);
      return stdout;
    },
    async shutdown() {
      const { agent, ended } = whenOn();
      // The guest may be off before it has answered.
      agent.run('systemctl poweroff --no-block').catch(() => {});
      await within(SHUTDOWN, 'the shutdown', ended);
      running = null;
    },
    async reboot(wanted) {
      await guest.shutdown();
      await guest.boot(wanted);
    },
    async cut() {
      running?.machine.kill('SIGKILL');
      await running?.ended;
      running = null;
    },
  };
  return guest;
};
