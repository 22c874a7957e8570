import { join } from 'node:path';
import { debianHeaders, debianSource, newestRelease } from '../machine/debian.ts';
import { pinToolchain, startKiln } from '../machine/kiln-service.ts';
import { TOOLCHAIN, WORK } from '../machine/places.ts';
import { makeScratchHost } from '../machine/scratch-host.ts';
import type { BuildView } from '../../services/core/protocol/build.ts';

/** The main job, start to end: a host without compiler or headers gets a signed module for Debian's newest 6.1 kernel. */

interface Installed {
  readonly receipts: readonly { readonly build: string }[];
  readonly cached: boolean;
  readonly installed: readonly string[];
  readonly seconds: number;
}

const MODULE = 'v4l2loopback';
const isTerminal = process.stdout.isTTY;
const times: [string, number][] = [];

/** Does a step, says so while it lasts, and notes how long it took. */
const step = async <T>(what: string, act: () => Promise<T>): Promise<T> => {
  const started = performance.now();
  const seconds = (): string => `${((performance.now() - started) / 1000).toFixed(1)} s`;
  const draw = (): void => void process.stdout.write(`\r\u001b[K  … ${what}  ${seconds()}`);
  if (!isTerminal) process.stdout.write(`  … ${what}\n`);
  const timer = isTerminal ? setInterval(draw, 100) : null;
  try {
    const result = await act();
    process.stdout.write(`${isTerminal ? '\r\u001b[K' : ''}  ✓ ${what}  ${seconds()}\n`);
    return result;
  } finally {
    if (timer !== null) clearInterval(timer);
    times.push([what, (performance.now() - started) / 1000]);
  }
};

const rows = (entries: readonly (readonly [string, string])[]): void => {
  const width = Math.max(...entries.map(([name]) => name.length));
  for (const [name, value] of entries) process.stdout.write(`  ${name.padEnd(width)}  ${value}\n`);
};

const demo = async (): Promise<void> => {
  const release = await newestRelease();
  const headers = await step(`fetch Debian's headers of ${release}, as files`, () =>
    debianHeaders(release),
  );
  const source = await step(`fetch Debian's ${MODULE}-dkms, as files`, () =>
    debianSource(`${MODULE}-dkms`),
  );
  const kiln = await step('start Kiln: api, builder, signer, Redis', () =>
    startKiln(join(WORK, 'demo/kiln')),
  );
  try {
    const toolchain = await step(`pin toolchain ${TOOLCHAIN.name} and measure it`, () =>
      pinToolchain(kiln),
    );
    await step('push the kernel’s headers (admin)', () => kiln.json('kernel', 'push', headers));
    await step('push the module’s source (admin)', () => kiln.json('source', 'push', source));
    const { secret } = await kiln.json<{ secret: string }>('token', 'create', 'demo-host');
    const host = await step(
      'make a host: minimal Debian with that kernel, no gcc, make, headers or Node',
      () => makeScratchHost('demo/host', release, secret),
    );
    const inHost = async (...args: string[]): Promise<string> => {
      const { status, stdout, stderr } = await host.run('kiln', ...args);
      if (status !== 0) throw new Error(`kiln ${args.join(' ')} failed on the host: ${stderr}`);
      return stdout;
    };
    const setup = ['setup', kiln.url, '--token-file', '/etc/kiln/token', '--quiet'];
    const [signer] = await kiln.json<{ key: string }[]>('signer', 'list');
    await step('on the host: kiln setup (pins the signer’s certificate)', () =>
      inHost(...setup, '--fingerprint', signer?.key ?? ''),
    );
    const missing = await host.run(
      'sh',
      '-c',
      'command -v gcc cc make node; ls -d /usr/src/linux-headers* 2>/dev/null',
    );
    if (missing.stdout !== '')
      throw new Error(`the host has what it should lack: ${missing.stdout}`);
    const install = async (): Promise<Installed> =>
      JSON.parse(await inHost('install', MODULE, '-k', release, '--json', '--quiet')) as Installed;
    const first = await step(`on the host: kiln install ${MODULE}`, install);
    await step('on the host: kiln verify', () => inHost('verify'));
    const again = await step(`on the host: kiln install ${MODULE}, again`, install);
    const modinfo = (await host.run('modinfo', '-k', release, MODULE)).stdout;

    process.stdout.write('\n');
    const build = await kiln.json<BuildView>('show', first.receipts[0]?.build ?? '');
    rows([
      ['fingerprint', build.fingerprint],
      ['toolchain', toolchain],
      ['compiler', build.kernel.compiler],
      ['kernel', `${release}  ${build.kernel.digest}`],
      ['source', `${build.source.name}/${build.source.version}  ${build.source.digest}`],
      ...build.modules.flatMap(({ name, unsigned, signed }): [string, string][] => [
        [`${name}.ko unsigned`, unsigned],
        [`${name}.ko signed`, signed ?? 'not signed'],
      ]),
      ['module', `${host.root}${first.installed[0] ?? ''}`],
      ['vermagic', /^vermagic:\s*(.*)$/m.exec(modinfo)?.[1] ?? ''],
      ['signer', /^signer:\s*(.*)$/m.exec(modinfo)?.[1] ?? ''],
    ]);
    process.stdout.write('\n');
    rows(times.map(([what, seconds]) => [`${seconds.toFixed(1).padStart(6)} s`, what]));
    process.stdout.write(
      `\n  first answer: ${first.cached ? 'was there already' : 'compiled'}, ${first.seconds.toFixed(2)} s to the installed module`,
    );
    process.stdout.write(
      `\n  second answer: ${again.cached ? 'was there already, nothing was compiled' : 'compiled'}, ${again.seconds.toFixed(2)} s\n`,
    );
    if (!again.cached) throw new Error('the second answer should have come without compiling');
    process.stdout.write(
      `\n  look yourself: chroot ${host.root} modinfo -k ${release} ${MODULE}\n`,
    );
  } finally {
    await step('stop Kiln', () => kiln.stop());
  }
};

demo().then(
  () => process.exit(0),
  (error: unknown) => {
    process.stderr.write(`\ndemo: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exit(1);
  },
);
