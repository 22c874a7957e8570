import { mkdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { allKernels } from '../conformance/matrix.ts';
import { debianHeaders, debianKernel, releasesOf } from '../machine/debian.ts';
import { pinToolchain, startKiln } from '../machine/kiln-service.ts';
import { dkmsSource, freshDirectory } from '../machine/make-source.ts';
import { CLIENT, DKMS_TOOLCHAIN, WORK } from '../machine/places.ts';
import { mustRun } from '../machine/run.ts';
import { makeSmallRoot } from '../machine/small-root.ts';

/**
 * What the client costs on a host: size, start, memory, `kiln status` with 20 modules on 5 kernels, and `kiln install` of 10 modules that
 * were built before, beside what depmod alone takes on the same kernel.
 *
 * usage   npm run bench:client
 */

const ROUNDS = 5;
const MODULES = 20;
const INSTALLED = 10;

const time = async (act: () => Promise<unknown>): Promise<number> => {
  const started = performance.now();
  await act();
  return (performance.now() - started) / 1000;
};

const median = (numbers: readonly number[]): number =>
  numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? NaN;

const rounds = async (act: () => Promise<unknown>): Promise<number> => {
  const times: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1) times.push(await time(act));
  return median(times);
};

/** The most memory a run of the client had, in MB. */
const peak = async (environment: NodeJS.ProcessEnv, ...args: string[]): Promise<number> => {
  const script =
    'import resource,subprocess,sys\nsubprocess.run(sys.argv[1:],stdout=-3,stderr=-3)\nprint(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)';
  return (
    Number(await mustRun('python3', ['-c', script, CLIENT, ...args], { env: environment })) / 1024
  );
};

const say = (text: string): void => void process.stderr.write(`${text}\n`);

const [, earlier = ''] = await releasesOf('amd64');
const releases = [...(await allKernels()), earlier];
const [release = ''] = releases;
const data = join(WORK, 'bench/client');
await rm(data, { recursive: true, force: true });
await mkdir(data, { recursive: true });
const kiln = await startKiln(join(data, 'kiln'), { KILN_CONCURRENCY: '2', KILN_LOG_LEVEL: 'warn' });
try {
  await pinToolchain(kiln, DKMS_TOOLCHAIN);
  for (const each of releases) {
    say(`pushing the headers of ${each}`);
    await kiln.json('kernel', 'push', await debianHeaders(each));
  }
  const names = Array.from({ length: MODULES }, (_, index) => `bench-${index}`);
  for (const name of names) await kiln.json('source', 'push', await dkmsSource(name, ''));
  const environment = { ...process.env, KILN_CONFIG: join(data, 'config') };
  const on = (root: string, ...args: string[]): Promise<string> =>
    mustRun(CLIENT, [...args, '--root', root, '-q'], { env: environment });
  await mustRun(
    CLIENT,
    ['setup', kiln.url, '--token-file', join(kiln.data, 'admin.token'), '--trust-first-use'],
    {
      env: environment,
    },
  );

  const many = await makeSmallRoot(...releases);
  say(`building and installing ${MODULES} modules on ${releases.length} kernels`);
  const all = await time(() => on(many, 'install', ...names, '--all-kernels'));
  const status = await rounds(() => on(many, 'status'));
  const offline = await rounds(() => on(many, 'status', '--offline'));
  const verify = await rounds(() => on(many, 'verify'));

  say(`installing ${INSTALLED} of them on a whole kernel`);
  const whole = await freshDirectory('whole');
  await mkdir(join(whole, 'lib/modules'), { recursive: true });
  const modules = join(await debianKernel(release), 'lib/modules', release);
  await mustRun('cp', ['-a', modules, join(whole, 'lib/modules/')]);
  await mustRun('depmod', ['-b', whole, release]);
  const ten = names.slice(0, INSTALLED);
  const times: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    times.push(await time(() => on(whole, 'install', ...ten, '-k', release)));
    await on(whole, 'remove', ...ten);
  }
  const depmod = await rounds(() => mustRun('depmod', ['-b', whole, release]));

  const xz = await mustRun('sh', ['-c', 'xz -1 -c "$0" | wc -c', CLIENT]);
  const start = await rounds(() => mustRun(CLIENT, ['--help']));
  const rows: readonly (readonly [string, string])[] = [
    [
      'size of the client',
      `${((await stat(CLIENT)).size / 1e6).toFixed(0)} MB, ${(Number(xz) / 1e6).toFixed(0)} MB as xz`,
    ],
    [
      '`kiln --help`',
      `${start.toFixed(2)} s, ${(await peak(environment, '--help')).toFixed(0)} MB of memory at most`,
    ],
    [
      `\`kiln status\`, ${MODULES} modules on ${releases.length} kernels`,
      `${status.toFixed(2)} s, ${(await peak(environment, 'status', '--root', many)).toFixed(0)} MB; --offline ${offline.toFixed(2)} s`,
    ],
    ['`kiln verify` of the same', `${verify.toFixed(2)} s`],
    [
      `\`kiln install\` of ${INSTALLED} built modules, whole kernel`,
      `${median(times).toFixed(2)} s, of it depmod ${depmod.toFixed(2)} s`,
    ],
    [
      `\`kiln install\` of ${MODULES} on ${releases.length} kernels, all of them built for it`,
      `${all.toFixed(0)} s`,
    ],
  ];
  process.stdout.write(
    `|  |  |\n|---|---|\n${rows.map(([what, value]) => `| ${what} | ${value} |`).join('\n')}\n`,
  );
} finally {
  await kiln.stop();
}
