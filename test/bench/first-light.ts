import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { connectDocker } from '../../services/builder/docker.ts';
import { isDigest } from '../../services/core/digest.ts';
import { debianHeaders, debianSource, newestRelease, unpackPackages } from '../machine/debian.ts';
import { pinToolchain, startKiln } from '../machine/kiln-service.ts';
import { CLIENT, WORK } from '../machine/places.ts';
import { mustRun } from '../machine/run.ts';
import { makeScratchHost } from '../machine/scratch-host.ts';

/**
 * How long a host waits for v4l2loopback, against what a user would use instead, all in one run on one machine with the same
 * compiler image and the same headers:
 *
 *   bare make     `make` in a container of the image (its start included), nothing else
 *   DKMS          `dkms build` of Debian's dkms in a container of the image (its start included); `dkms install`, which ends
 *                 with a module in place as kiln install does, runs depmod after it: that is measured on the host
 *   Kiln, first   kiln install on the host, image and headers not yet on the builder
 *   Kiln, cold    the same, image and headers at hand, the module not built before
 *   Kiln, cached  the same, answered from what was built before; and without the host's depmod
 *
 * usage   npm run bench [-- --json FILE]
 */

const ROUNDS = 5;
const cpus = '2';

const time = async (act: () => Promise<unknown>): Promise<number> => {
  const started = performance.now();
  await act();
  return (performance.now() - started) / 1000;
};

const median = (numbers: readonly number[]): number =>
  numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? NaN;

const rounds = async (act: (round: number) => Promise<unknown>): Promise<number> => {
  const times: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1) times.push(await time(() => act(round)));
  return median(times);
};

const say = (text: string): void => void process.stderr.write(`${text}\n`);

const release = await newestRelease();
const headers = await debianHeaders(release);
const source = await debianSource('v4l2loopback-dkms');
const dkms = await unpackPackages('dkms', ['dkms']);
const version = '0.12.7';
const buildPath = `/var/lib/dkms/v4l2loopback/${version}/build`;
const data = join(WORK, 'bench/kiln');
await rm(data, { recursive: true, force: true });
await mkdir(join(WORK, 'bench'), { recursive: true });

const kiln = await startKiln(data, { KILN_LOG_LEVEL: 'warn' });
try {
  say('pinning the toolchain, pushing headers');
  const toolchain = await pinToolchain(kiln);
  const image =
    (isDigest(toolchain)
      ? await connectDocker('/var/run/docker.sock').findImage(toolchain)
      : null) ?? '';
  await kiln.json('kernel', 'push', headers);
  const token = await kiln.json<{ secret: string }>('token', 'create', 'bench');
  const host = await makeScratchHost('bench/host', release, token.secret);
  await mustRun('chroot', [host.root, 'mkdir', '-p', '/etc/kiln']);
  await host.run('kiln', 'setup', kiln.url, '--token-file', '/etc/kiln/token', '--trust-first-use');

  const mounts = ['usr/src', 'usr/lib'].flatMap((parent) =>
    (parent === 'usr/src'
      ? [`linux-headers-${release}`, `linux-headers-${release.replace('-amd64', '-common')}`]
      : ['linux-kbuild-6.1']
    ).map((name) => `${join(headers, parent, name)}:/${parent}/${name}:ro`),
  );
  const container = (extra: readonly string[], script: string): Promise<string> =>
    mustRun('docker', [
      'run',
      '--rm',
      '--network',
      'none',
      '--cpus',
      cpus,
      ...[...mounts, ...extra].flatMap((mount) => ['-v', mount]),
      image,
      'sh',
      '-euc',
      script,
    ]);
  const asDkms = [
    `${source}:/usr/src/v4l2loopback-${version}:ro`,
    `${join(dkms, 'usr/sbin/dkms')}:/usr/sbin/dkms:ro`,
    `${join(dkms, 'etc/dkms')}:/etc/dkms:ro`,
  ];
  const linkBuild = `mkdir -p /lib/modules/${release} && ln -s /usr/src/linux-headers-${release} /lib/modules/${release}/build`;
  const bare = `${linkBuild}; mkdir -p ${buildPath} && cp -r /usr/src/v4l2loopback-${version}/. ${buildPath} && cd ${buildPath} && make -j${cpus} KERNEL_DIR=/usr/src/linux-headers-${release} KERNELRELEASE=${release} all >/dev/null 2>&1 && strip -g v4l2loopback.ko && sha256sum v4l2loopback.ko`;
  const withDkms = `${linkBuild}; mkdir -p /var/lib/dkms; dkms build v4l2loopback/${version} -k ${release} >/tmp/log 2>&1 || { cat /tmp/log >&2; exit 1; }; sha256sum /var/lib/dkms/v4l2loopback/${version}/${release}/x86_64/module/v4l2loopback.ko`;

  let install = 0;
  /** Another module each time: the same source with a line more, so that nothing was built before. */
  const freshSource = async (): Promise<void> => {
    install += 1;
    const tree = join(WORK, 'bench/source');
    await rm(tree, { recursive: true, force: true });
    await mustRun('cp', ['-r', source, tree]);
    await writeFile(
      join(tree, 'dkms.conf'),
      `PACKAGE_NAME=v4l2loopback\nPACKAGE_VERSION=0.12.7.${install}\nMAKE[0]="make KERNEL_DIR=\${kernel_source_dir} all"\nCLEAN="make clean"\nBUILT_MODULE_NAME[0]=v4l2loopback\nDEST_MODULE_LOCATION[0]=/extra\n`,
    );
    await kiln.json('source', 'push', tree);
  };
  const onHost = async (...args: string[]): Promise<void> => {
    const { status, stderr } = await host.run('kiln', ...args);
    if (status !== 0) throw new Error(stderr);
  };

  await freshSource();
  say('Kiln, first');
  const first = await time(() => onHost('install', 'v4l2loopback', '-k', release, '-q'));
  const cold: number[] = [];
  const make: number[] = [];
  const dkmsTimes: number[] = [];
  const bytes = new Set<string>();
  for (let round = 1; round <= ROUNDS; round += 1) {
    say(`round ${round} of ${ROUNDS}: bare make, DKMS, Kiln`);
    make.push(
      await time(async () => bytes.add(`make ${(await container(asDkms, bare)).slice(0, 64)}`)),
    );
    dkmsTimes.push(
      await time(async () => bytes.add(`DKMS ${(await container(asDkms, withDkms)).slice(0, 64)}`)),
    );
    await freshSource();
    cold.push(await time(() => onHost('install', 'v4l2loopback', '-k', release, '-q')));
  }
  say('answers from the cache');
  const cached = await rounds(() => onHost('install', 'v4l2loopback', '-k', release, '-q'));
  const answered = await rounds(() => onHost('build', 'v4l2loopback', '-k', release, '-q'));
  const depmod = await rounds(() => host.run('depmod', release));
  const startUp = await rounds(() => mustRun(CLIENT, ['--help']));

  // The same source unchanged, for the bytes.
  const { modules } = await kiln.json<{ modules: { unsigned: string }[] }>(
    'build',
    source,
    '-k',
    release,
  );
  bytes.add(`Kiln ${modules[0]?.unsigned.slice('sha256:'.length) ?? ''}`);
  const distinct = new Set([...bytes].map((line) => line.slice(5)));

  const result = {
    seconds: {
      make: median(make),
      dkms: median(dkmsTimes),
      first,
      cold: median(cold),
      cached,
      answered,
      depmod,
      startUp,
    },
    ratios: {
      coldToMake: median(cold) / median(make),
      coldToDkmsBuild: median(cold) / median(dkmsTimes),
      coldToDkmsInstall: median(cold) / (median(dkmsTimes) + depmod),
    },
    aim: { coldAtMost: 1.2 * median(make) + 0.5, answeredAtMost: 0.2 },
    sameBytes: distinct.size === 1,
    bytes: [...bytes],
  };
  const row = (name: string, seconds: number, note = ''): string =>
    `${name.padEnd(44)} ${seconds.toFixed(2).padStart(6)} s  ${note}`;
  process.stdout.write(
    `${[
      row('bare make in a container', result.seconds.make),
      row('dkms build in a container', result.seconds.dkms),
      row('kiln install, nothing on the builder yet', first),
      row(
        'kiln install, image and headers at hand',
        result.seconds.cold,
        `${result.ratios.coldToMake.toFixed(2)} × make, ${result.ratios.coldToDkmsBuild.toFixed(2)} × dkms build, ${result.ratios.coldToDkmsInstall.toFixed(2)} × with its depmod; aim: at most ${result.aim.coldAtMost.toFixed(2)} s`,
      ),
      row('kiln install, built before', cached, `of it depmod ${depmod.toFixed(2)} s`),
      row('kiln build, answered from the record', answered, 'aim: under 0.20 s'),
      row('kiln --help', startUp),
      `the same module from make, DKMS and Kiln: ${result.sameBytes ? 'the same bytes' : 'OTHER BYTES'}`,
    ].join('\n')}\n`,
  );
  const json = process.argv.indexOf('--json');
  if (json > 0)
    await writeFile(process.argv[json + 1] ?? 'bench.json', `${JSON.stringify(result, null, 2)}\n`);
} finally {
  await kiln.stop();
}
