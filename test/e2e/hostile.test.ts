import { chmod } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { containersOf } from '../machine/containers.ts';
import { fewHeaders } from '../machine/few-headers.ts';
import { pinToolchain, startKiln, type KilnService } from '../machine/kiln-service.ts';
import { dkmsSource, freshDirectory, moduleCode } from '../machine/make-source.ts';
import type { Ran } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';
import { IS_THOROUGH } from '../machine/thorough.ts';

/**
 * A dkms.conf is bash that anybody may write. Each of these is built by a Kiln with tight limits, and after all of a kind (thoroughly:
 * after each) an honest source must give the very bytes that it gave before.
 */
const shared = sharedKiln();
const MiB = 1024 ** 2;
/** Beyond what an honest build takes, on any machine; and what is enough for one that does not end. */
const [AMPLE, SHORT] = [300, 5];
const data = await freshDirectory('hostile');
const start = (seconds: number): Promise<KilnService> =>
  startKiln(data, {
    KILN_LOG_LEVEL: 'warn',
    KILN_BUILD_SECONDS: String(seconds),
    KILN_BUILD_DISK: String(64 * MiB),
    KILN_BUILD_LOG: String(2 * MiB),
    KILN_BUILD_MEMORY: String(512 * MiB),
    KILN_BUILD_PIDS: '200',
  });
let kiln: KilnService;
let kernel: string;
let honest: string;
beforeAll(async () => {
  kiln = await start(AMPLE);
  await pinToolchain(kiln);
  kernel = (await kiln.json<{ digest: string }>('kernel', 'push', await fewHeaders(shared.release)))
    .digest;
  await kiln.json('source', 'push', await dkmsSource('honest', ''));
  honest = await honestBytes();
});
afterAll(async () => {
  await kiln.stop();
});

interface Made {
  readonly id: string;
  readonly modules: readonly { readonly unsigned: string }[];
}

/** The bytes of an honest module, made anew each time. */
const honestBytes = async (): Promise<string> => {
  const { id, modules } = await kiln.json<Made>('build', 'honest', '-k', kernel);
  expect(await kiln.json('rebuild', id)).toMatchObject({ state: 'same' });
  return modules.map(({ unsigned }) => unsigned).join(' ');
};
const holdHonest = async (): Promise<void> => expect(await honestBytes()).toBe(honest);

const attempt = async (name: string, conf: string, script = ''): Promise<Ran> => {
  const source = await dkmsSource(name, conf, script === '' ? {} : { attack: script });
  if (script !== '') await chmod(join(source, 'attack'), 0o755);
  return kiln.kiln('build', source, '-k', kernel, '-q');
};

describe('what would never end', () => {
  beforeAll(async () => {
    await kiln.stop();
    kiln = await start(SHORT);
  });
  afterAll(async () => {
    await kiln.stop();
    kiln = await start(AMPLE);
    await holdHonest();
  });
  const isEnded = /took over 5 seconds, the limit of this builder \(timed-out\)/;

  it.each([
    ['loops', 'while :; do :; done'],
    ['sleeps', 'sleep infinity'],
  ])('a dkms.conf that %s for ever ends in a clear outcome', async (what, conf) => {
    const { status, stderr } = await attempt(`hostile-${what}`, conf);
    expect([status, stderr]).toEqual([1, expect.stringMatching(isEnded)]);
  });

  it('a build that forks without end is ended', async () => {
    const { status, stderr } = await attempt(
      'forks',
      'PRE_BUILD=attack',
      '#!/bin/bash\nf() { f | f & }; f; wait; sleep 60\n',
    );
    expect([status, stderr]).toEqual([
      1,
      expect.stringMatching(/timed-out|compile-failed|out-of-memory/),
    ]);
  });
});

describe('a dkms.conf that', () => {
  (IS_THOROUGH ? afterEach : afterAll)(holdHonest);

  it.each([
    [
      'fills the disk',
      'head -c 1G /dev/zero >/var/lib/dkms/hostile-fills/1.0/build/full; exit 1',
      /\(over-limit\)|PACKAGE_NAME/,
    ],
    [
      'prints without end',
      'yes "all work and no play"',
      /over 2097152 bytes of log.*\(over-limit\)/,
    ],
    [
      'sets values without end',
      'printf -v long "%01000d" 7; for i in {1..3000}; do PATCH[i]=$long; done; PATCH[3001]=x',
      /malformed answer \(bad-source\)|No space|bad-source/,
    ],
    ['ends the shell', 'exit 0', /dkms\.conf cannot be evaluated/],
    // What follows does as little harm as under DKMS, and is built: what was set before counts.
    ['does not parse', 'if then fi (', null],
    ['ends the shell by force', 'kill -9 $$', null],
    [
      'answers in our place',
      'printf "9\nMAKE" >&3; printf "9\nMAKE" >&4',
      /malformed answer \(bad-source\)/,
    ],
  ])('%s ends in a clear outcome', async (what, conf, words) => {
    const name = `hostile-${what.split(' ')[0] ?? ''}-${what.length}`;
    const text = conf.replaceAll('hostile-fills', name);
    const { status, stderr } = await attempt(name, text);
    if (words === null) expect([status, stderr]).toEqual([0, '']);
    else expect([status, stderr]).toEqual([1, expect.stringMatching(words)]);
  });
});

describe('a build that', () => {
  (IS_THOROUGH ? afterEach : afterAll)(holdHonest);

  it('fills the disk is ended, and says so', async () => {
    const { stderr } = await attempt(
      'fills',
      'PRE_BUILD=attack',
      '#!/bin/sh\nhead -c 1G /dev/zero >full\n',
    );
    expect(stderr).toMatch(/writes more than 67108864 bytes; .*KILN_BUILD_DISK\) \(over-limit\)/);
  });

  it('reaches for the network finds none', async () => {
    const { stderr } = await attempt(
      'reaches',
      'PRE_BUILD=attack',
      '#!/bin/bash\nfor to in 127.0.0.1/6379 172.17.0.1/22 10.0.0.1/80 169.254.169.254/80; do (exec 3<>/dev/tcp/$to) 2>/dev/null && echo "kiln: the build reached $to"; done; getent hosts localhost.example; cat /proc/net/dev; exit 1\n',
    );
    expect(stderr).toMatch(/pre-build' ended with exit status 1/);
    expect(stderr).not.toMatch(/reached/);
  });

  it('reads every path it can finds no key, token, socket or other build', async () => {
    const id = await failedBuild(
      'reads',
      '#!/bin/bash\nfind / -xdev \\( -name "*.token" -o -name "*.sock" -o -name "*.key" -o -name admin.token -o -name docker.sock \\) 2>/dev/null | grep -v ^/proc; find /var/lib/dkms /usr/src -maxdepth 1; cat /proc/1/cmdline | tr "\\0" " " | head -c 100; echo; cat /proc/*/environ | tr "\\0" "\\n" | grep -i -E "kiln_|redis|token"; mount | grep -c docker.sock; cat /proc/1/cgroup >/dev/null; cat /proc/kcore 2>&1 | head -c 100; exit 1\n',
    );
    const log = (await kiln.kiln('logs', id)).stdout;
    expect(log).not.toMatch(/\.token|docker\.sock|redis|KILN_|signing\.key/i);
    expect(log).toMatch(/^\/var\/lib\/dkms\/reads$/m);
    expect(log).not.toMatch(/honest/);
  });

  it('tries to leave its container stays in it', async () => {
    const id = await failedBuild(
      'leaves',
      `#!/bin/bash
try() { "$@" >/dev/null 2>&1 && echo "got out: $*"; }
try mount -t tmpfs none /mnt
try unshare -Ur true
try unshare -m true
try chroot / true
try mknod /tmp/sda b 8 0
try insmod /tmp/x.ko
try sh -c 'echo c >/proc/sysrq-trigger'
try sh -c 'echo "|/bin/sh" >/proc/sys/kernel/core_pattern'
try sh -c 'echo 1 >/sys/fs/cgroup/release_agent'
try sh -c 'ls /proc/1/root/home/*'
try nsenter -t 1 -m true
try su -c true
awk '/^[UG]id:/ { for (at = 2; at <= 5; at += 1) if ($at < 1000000000) print "got out: is " $0 }' /proc/self/status
ln -s / out; ls out/root >/dev/null 2>&1 && echo 'got out: /root'
exit 1
`,
    );
    expect((await kiln.kiln('logs', id)).stdout).not.toMatch(/got out/);
  });

  it('changes its inputs cannot', async () => {
    const id = await failedBuild(
      'changes',
      `#!/bin/bash
for file in /usr/src/*/Makefile /usr/src/*/Module.symvers /usr/lib/linux-kbuild-*/scripts/mod/modpost /usr/src/changes-1.0/dkms.conf /usr/bin/gcc; do
  (echo x >>"$file") 2>/dev/null && echo "changed $file"
  rm -f "$file" 2>/dev/null && echo "changed $file"
done
exit 1
`,
    );
    expect((await kiln.kiln('logs', id)).stdout).not.toMatch(/^changed/m);
  });

  it.each([
    ['a link to a host’s file', 'ln -sf /etc/passwd plants.ko', /left no module plants\d+\.ko/],
    ['a device', 'mkfifo plants.ko', /left no module plants\d+\.ko/],
    ['a program', 'cp /bin/ls plants.ko', /bad-output/],
    ['nothing', 'true', /left no module plants\d+\.ko/],
  ])('plants %s for its module is refused', async (what, command, words) => {
    const name = `plants${what.length}`;
    const { status, stderr } = await attempt(name, `MAKE="${command.replace('plants', name)}"`);
    expect([status, stderr]).toEqual([1, expect.stringMatching(words)]);
  });

  it('plants a link among its results leads nowhere', async () => {
    const { status, stderr } = await attempt(
      'links',
      'POST_BUILD=attack',
      '#!/bin/sh\ncd ../6*/x86_64 && ln -s /etc/passwd stolen && ln -s / module/root.ko\n',
    );
    expect([status, stderr]).toEqual([
      1,
      expect.stringMatching(/which is neither a module nor a plain file|bad-output/),
    ]);
  });

  it('changes the CRCs it is built against gives no module', async () => {
    const { status, stderr } = await attempt(
      'forged',
      'MAKE=./attack',
      `#!/bin/bash
headers=$(readlink -f /lib/modules/6*/build)
cp -rs "$headers" h && rm h/Module.symvers
sed $'s/^0x[0-9a-f]*\\tmodule_layout/0x00000001\\tmodule_layout/' "$headers/Module.symvers" >h/Module.symvers
make -C h M=$PWD modules
`,
    );
    expect([status, stderr]).toEqual([
      1,
      expect.stringMatching(/other versions \(CRCs\) of module_layout.*bad-output/),
    ]);
  });

  it.each([
    [
      'vermagic',
      "sed -i 's/SMP preempt/SMP preemqt/' claims-vermagic.ko",
      /has vermagic ".* preemqt /,
    ],
    ['mark', "sed -i 's/retpoline=Y/retpoline=N/' claims-mark.ko", /lacks the mark retpoline=Y/],
    [
      'CPU',
      "printf '\\267' | dd of=claims-CPU.ko bs=1 seek=18 conv=notrunc",
      /is for aarch64, not x86_64/,
    ],
  ])('gives its module another %s gives no module', async (what, forge, words) => {
    const name = `claims-${what}`;
    const { status, stderr } = await attempt(
      name,
      'MAKE=./attack\nSTRIP=no',
      `#!/bin/bash\nmake -C /lib/modules/6*/build M=$PWD modules && ${forge}\n`,
    );
    expect([status, stderr]).toEqual([1, expect.stringMatching(words)]);
  });

  it('needs a symbol that nobody has gives no module', async () => {
    const source = await dkmsSource(
      'lonely',
      'MAKE="make -C $kernel_source_dir M=$dkms_tree/lonely/1.0/build KBUILD_MODPOST_WARN=1 modules"',
      {
        'lonely.c': moduleCode(
          'extern void nobody_has_this(void); void use_it(void) { nobody_has_this(); }',
        ),
      },
    );
    const { status, stderr } = await kiln.kiln('build', source, '-k', kernel);
    expect([status, stderr]).toEqual([
      1,
      expect.stringMatching(/neither the kernel nor what it depends on exports: nobody_has_this/),
    ]);
  });
});

/** Builds a source whose PRE_BUILD is the script; it must fail with that script's status, and its id is given back. */
const failedBuild = async (name: string, script: string): Promise<string> => {
  const { status, stderr } = await attempt(name, 'PRE_BUILD=attack', script);
  expect([status, stderr]).toEqual([
    1,
    expect.stringMatching(/pre-build' ended with exit status 1|compile-failed/),
  ]);
  return /kiln logs (\w+)/.exec(stderr)?.[1] ?? '';
};

it('nothing is left of them', async () => {
  expect(await containersOf(kiln.data)).toEqual([]);
});
