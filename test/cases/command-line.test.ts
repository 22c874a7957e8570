import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import type { KernelView } from '../../services/core/protocol/kernel.ts';
import { freePort } from '../machine/faulty-network.ts';
import { startKiln } from '../machine/kiln-service.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { CHECKOUT, CLIENT, KILND, NODE } from '../machine/places.ts';
import { run, type Ran } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';

/** Settings and options where people write them. */

const kiln = sharedKiln();

/** The client without a word about its service but what the command line says. */
const bare = (...args: string[]): Promise<Ran> =>
  run(CLIENT, args, { env: { PATH: process.env['PATH'], KILN_CONFIG: join(kiln.data, 'none') } });

describe('options that every command takes', () => {
  const given = ['--server', kiln.url, '--token-file', join(kiln.data, 'admin.token')];

  it.each([
    ['before the command', [...given, '--json', '-q', 'kernel', 'list']],
    ['within it', ['kernel', ...given, '--json', 'list', '-q']],
    ['before and behind it', [...given, 'kernel', 'list', '--json', '--quiet']],
    ['as --NAME=VALUE', [`--server=${kiln.url}`, '--json', 'kernel', 'list', ...given.slice(2)]],
  ])('are taken %s', async (_, args) => {
    const { status, stdout, stderr } = await bare(...args);
    expect([status, stderr]).toEqual([0, '']);
    const kernels = JSON.parse(stdout) as readonly KernelView[];
    expect(kernels.map(({ digest }) => digest)).toContain(kiln.kernel);
  });

  it('may be all there is: then no command is given', async () => {
    expect(await bare(...given)).toMatchObject({
      status: 2,
      stderr: 'kiln: no command is given; kiln --help lists them\n',
    });
  });

  it('ask for help before the command as behind it', async () => {
    const behind = await bare('kernel', 'list', '--help');
    expect(behind.stdout).toMatch(/^kiln kernel list/);
    expect(await bare('--help', 'kernel', 'list')).toEqual(behind);
    expect(await bare('help', 'kernel', 'list')).toEqual(behind);
    expect((await bare('--quiet', '--help')).stdout).toMatch(/^kiln - kernel modules/);
  });

  it('are told from a command’s own, which stand behind it', async () => {
    expect(await bare('-k', kiln.release, 'install', 'v4l2loopback')).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/^kiln: -k stands before the command.*write it behind\n$/),
    });
  });
});

describe('settings of kilnd', () => {
  const kilnd = (args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Ran> =>
    run(NODE, [KILND, ...args], { env: { PATH: process.env['PATH'], ...env } });

  it('are listed by --help, each that any role’s config file reads, with its meaning', async () => {
    const services = join(CHECKOUT, 'services');
    const files = (await readdir(services, { recursive: true })).filter((file) =>
      /(^|\/)(config|settings)\.ts$/.test(file),
    );
    const texts = await Promise.all(files.map((file) => readFile(join(services, file), 'utf8')));
    const read = new Set(texts.flatMap((text) => text.match(/\bKILN_[A-Z0-9_]+/g) ?? []));
    expect(read.size).toBeGreaterThan(20);
    const { stdout } = await kilnd(['--help']);
    const listed = [...stdout.matchAll(/^ {2}(KILN_[A-Z0-9_]+) +([^ (].*)$/gm)].map(
      ([, name]) => name,
    );
    // Some are for more than one role.
    expect([...new Set(listed)].sort()).toEqual([...read].sort());
  });

  it('have effect on one machine: KILN_PORT', async () => {
    const port = await freePort();
    const settings = { KILN_LOG_LEVEL: 'warn', KILN_PORT: String(port) };
    const service = await startKiln(await freshDirectory('port'), settings, null);
    try {
      expect(service.url).toBe(`http://127.0.0.1:${port}`);
      expect((await fetch(`${service.url}/healthz`)).status).toBe(200);
    } finally {
      await service.stop();
    }
  });

  it('are refused where kilnd makes them itself, or a role takes none', async () => {
    const data = await freshDirectory('refused');
    expect(await kilnd(['--data', data], { KILN_BLOBS: '/srv/blobs' })).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/^kilnd: KILN_BLOBS is set.*keeps everything below --data/),
    });
    expect(await kilnd(['--data', data], { KILN_S3_KEY_ID: 'key' })).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/^kilnd: KILN_S3_KEY_ID is set.*keeps everything below --data/),
    });
    expect(await kilnd(['api', '--listen', '127.0.0.1:0'])).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/^kilnd: --listen is for kilnd without a role/),
    });
    expect(await kilnd(['--data', data], { KILN_PORT: 'http' })).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/KILN_PORT/),
    });
  });
});
