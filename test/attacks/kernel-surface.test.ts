import { chmod } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { connectDocker } from '../../services/builder/docker.ts';
import type { Digest } from '../../services/core/digest.ts';
import type { BuildView } from '../../services/core/protocol/build.ts';
import { dkmsSource } from '../machine/make-source.ts';
import { mustRun } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';

/** What a build can ask of the host's kernel, and what it is told of the host. */

const kiln = sharedKiln();

/** A shell's words that make a system call as 32-bit programs do, and say how the program ended. */
const CALL_AS_32_BIT = `echo 'int main(void) { int is; __asm__ volatile("int $0x80" : "=a"(is) : "a"(20)); return 0; }' >/tmp/old.c
gcc -o /tmp/old /tmp/old.c && /tmp/old
echo "32-bit $?"`;

/** System calls that no build needs, as perl makes them: their number on x86_64 and arguments. */
const REFUSED: Readonly<Record<string, string>> = {
  'socket(AF_VSOCK)': '41, 40, 1, 0',
  'socket(AF_ALG)': '41, 38, 5, 0',
  'socket(AF_NETLINK)': '41, 16, 3, 0',
  'socket(AF_PACKET)': '41, 17, 3, 0',
  'socket(AF_BLUETOOTH)': '41, 31, 3, 0',
  io_uring_setup: '425, 1, $buffer',
  io_uring_enter: '426, 0, 0, 0, 0, 0, 0',
  io_uring_register: '427, 0, 0, 0, 0',
  add_key: '248, "user", "name", "value", 5, -3',
  request_key: '249, "user", "name", 0, -3',
  keyctl: '250, 0, -3, 0',
  bpf: '321, 0, $buffer, 72',
  perf_event_open: '298, $buffer, 0, -1, -1, 0',
  userfaultfd: '323, 1',
  'unshare(user namespace)': '272, 0x10000000',
  'unshare(time namespace)': '272, 0x80',
  'clone(user namespace)': '56, 0x10000011, 0, 0, 0, 0',
  setns: '308, 0, 0',
  mount: '165, "none", "/tmp", "tmpfs", 0, 0',
  umount2: '166, "/tmp", 0',
  pivot_root: '155, "/tmp", "/tmp"',
  chroot: '161, "/"',
  fsopen: '430, "tmpfs", 0',
  open_tree: '428, -100, "/", 0',
  move_mount: '429, -100, "/", -100, "/tmp", 0',
  mount_setattr: '442, -100, "/", 0, $buffer, 32',
  'ptrace(TRACEME)': '101, 0, 0, 0, 0',
  'ptrace(ATTACH)': '101, 16, getppid(), 0, 0',
  process_vm_readv: '310, $$, $buffer, 0, $buffer, 0, 0',
  process_vm_writev: '311, $$, $buffer, 0, $buffer, 0, 0',
  pidfd_getfd: '438, 0, 0, 0',
  kcmp: '312, $$, $$, 0, 0, 0',
  open_by_handle_at: '304, -100, $buffer, 0',
  fanotify_init: '300, 0, 0',
  init_module: '175, $buffer, 64, ""',
  finit_module: '313, 0, "", 0',
  kexec_load: '246, 0, 0, $buffer, 0',
  syslog: '103, 3, $buffer, 64',
  quotactl: '179, 0, "", 0, $buffer',
  swapon: '167, "/tmp", 0',
  iopl: '172, 3',
  modify_ldt: '154, 0, $buffer, 64',
  settimeofday: '164, $buffer, 0',
  shmget: '29, 0, 4096, 0600',
  'personality(ADDR_NO_RANDOMIZE)': '135, 0x40000',
};

const NOT_ALLOWED = 1;
const NOT_THERE = 38;

/** All that `/proc` and `/sys` could tell of the machine it is on. With `/./` in them, scripts are not pointed at the texts of the kernel that is built for. */
const TOLD =
  '/proc/cmdline /proc/loadavg /proc/uptime /proc/./version /proc/kcore /proc/modules /proc/kallsyms /proc/timer_list /proc/interrupts /proc/partitions /proc/diskstats /proc/swaps /proc/vmstat /proc/zoneinfo /proc/buddyinfo /proc/iomem /proc/crypto /proc/keys /proc/key-users /proc/locks /proc/pressure /proc/config.gz /proc/sys/./kernel/osrelease /proc/sys/kernel/random/boot_id /sys/class/dmi/id/product_name /sys/devices/virtual/dmi /sys/firmware /sys/block /sys/module /sys/kernel /sys/fs/cgroup';

describe('a build', () => {
  let log = '';
  beforeAll(async () => {
    const calls = Object.entries(REFUSED).map(
      ([name, call]) =>
        `my ($number, @args) = (${call}); print "call '${name}' ", syscall($number, @args) < 0 ? $! + 0 : 0, "\\n";`,
    );
    const source = await dkmsSource('asks-kernel', 'PRE_BUILD=ask', {
      ask: `#!/bin/bash
perl -e '$| = 1; my $buffer = "\\0" x 4096; ${calls.join(' ').replaceAll("'", `'\\''`)}'
perl -e 'my $args = "\\0" x 88; print "call clone3 ", syscall(435, $args, 88) < 0 ? $! + 0 : 0, "\\n"'
${CALL_AS_32_BIT}
for path in ${TOLD}; do
  [ ! -d "$path" ] || ls -A "$path" | head -n 3 | sed "s|^|told $path |"
  [ ! -f "$path" ] || head -c 100 "$path" 2>/dev/null | tr '\\0' ' ' | sed "s|^|told $path |"
done
mkfifo /tmp/fifo && (echo through >/tmp/fifo &) && cat /tmp/fifo
perl -MSocket -e 'socketpair(my $a, my $b, AF_UNIX, SOCK_STREAM, 0) and print "pair\\n"'
perl -e 'print "count ", scalar(grep { /^processor/ } do { open my $f, "<", "/proc/cpuinfo"; <$f> }) > 0 ? "cpus" : "none", "\\n"'
`,
    });
    await chmod(join(source, 'ask'), 0o755);
    const made = await kiln.json<BuildView>('build', source, '-k', kiln.kernel);
    log = (await kiln.kiln('logs', made.id)).stdout;
  });

  it.each(Object.keys(REFUSED))('that calls %s is not allowed to', (name) => {
    expect(log).toContain(`call '${name}' ${NOT_ALLOWED}\n`);
  });

  it('that calls clone3 is told that there is no such call, as what takes clone instead must be', () => {
    expect(log).toContain(`call clone3 ${NOT_THERE}\n`);
  });

  it('that makes system calls as 32-bit programs do is ended', async () => {
    const image = await connectDocker('/var/run/docker.sock').findImage(kiln.toolchain as Digest);
    const unconfined = ['--rm', '--network=none', '--security-opt=seccomp=unconfined', image ?? ''];
    const outside = await mustRun('docker', ['run', ...unconfined, 'bash', '-c', CALL_AS_32_BIT]);
    // The profile ends it by SIGSYS; where the host's kernel has no such calls for anybody, that does, by SIGSEGV.
    expect(['32-bit 0', '32-bit 139']).toContain(outside.trim());
    expect(log).toContain(outside.trim() === '32-bit 0' ? '32-bit 159\n' : '32-bit 139\n');
  });

  it('that reads what the kernel says of the host reads nothing', () => {
    expect(log).not.toMatch(/^told /m);
  });

  it('still has pipes, sockets of its own and the count of CPUs', () => {
    expect(log).toMatch(/^through\npair\ncount cpus$/m);
  });
});
