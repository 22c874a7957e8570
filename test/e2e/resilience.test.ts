import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { BuildView } from '../../services/core/protocol.ts';
import { containersOf } from '../machine/containers.ts';
import { pinToolchain, startKiln, type KilnService } from '../machine/kiln-service.ts';
import { dkmsSource, freshDirectory } from '../machine/make-source.ts';
import { CLIENT, KILND, NODE } from '../machine/places.ts';
import { mustRun, run } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';

/** Nothing is lost when a process dies, and nothing is left when Kiln ends. Uses a Kiln of its own. */

const shared = sharedKiln();
const data = await freshDirectory('mortal');
/** A builder with room for two, so that one may begin what another has not ended. */
const SETTINGS = { KILN_BUILD_SECONDS: '25', KILN_CONCURRENCY: '2', KILN_LOG_LEVEL: 'warn' };
let kiln: KilnService;
let count = 0;

/** A source whose build takes some seconds, so that something can happen meanwhile. */
const slowSource = (seconds: number): Promise<string> => {
  count += 1;
  const name = `slow${count}`;
  return dkmsSource(
    name,
    `MAKE="sleep ${seconds}; make -C $kernel_source_dir M=$dkms_tree/${name}/1.0/build"`,
  );
};

const containers = (): Promise<readonly string[]> => containersOf(data);

/** The process of a role, from what kilnd last said of it. */
const processOf = (role: string): number => {
  const said = [
    ...kiln.output().matchAll(new RegExp(`${role} is ready \\(process (\\d+)\\)`, 'g')),
  ].at(-1)?.[1];
  return Number(said);
};

const redisProcess = async (): Promise<number> => {
  const children = await readFile(
    `/proc/${kiln.process.pid}/task/${kiln.process.pid}/children`,
    'utf8',
  );
  for (const pid of children.trim().split(' ')) {
    if ((await readFile(`/proc/${pid}/comm`, 'utf8')).startsWith('redis-server'))
      return Number(pid);
  }
  throw new Error('kilnd has no Redis');
};

/** A role whose kilnd was killed sees that and ends. */
const untilGone = async (pid: number): Promise<void> => {
  for (let tries = 0; tries < 100; tries += 1) {
    try {
      process.kill(pid, 0);
    } catch {
      return;
    }
    await sleep(100);
  }
  throw new Error(`process ${pid} is still there`);
};

const untilBuilding = async (): Promise<BuildView> => {
  for (let tries = 0; tries < 200; tries += 1) {
    const building = (await kiln.json<BuildView[]>('list')).find(
      ({ state }) => state === 'building',
    );
    if (building !== undefined && (await containers()).length > 0) return building;
    await sleep(100);
  }
  throw new Error('no build began');
};

const build = (source: string): Promise<BuildView> =>
  kiln.json<BuildView>('build', source, '-k', shared.release);

/** Sends ^C to a client once its build, or one that this waits for, is under way; resolves when nothing of that is left. */
const interruptWhileBuilding = async (
  source: string,
): Promise<{ readonly id: string; readonly seconds: number }> => {
  const client = spawn(CLIENT, ['build', source, '-k', shared.release], {
    env: { ...process.env, KILN_SERVER: kiln.url, KILN_TOKEN_FILE: join(data, 'admin.token') },
    stdio: 'ignore',
  });
  const { id } = await untilBuilding();
  const ended = once(client, 'exit');
  const started = performance.now();
  client.kill('SIGINT');
  expect(await ended).toEqual([130, null]);
  for (let tries = 0; tries < 50 && (await containers()).length > 0; tries += 1) await sleep(100);
  const seconds = (performance.now() - started) / 1000;
  expect(await containers()).toEqual([]);
  return { id, seconds };
};

beforeAll(async () => {
  kiln = await startKiln(data, SETTINGS);
  await pinToolchain(kiln);
  await kiln.json('kernel', 'push', shared.headers);
});

afterAll(async () => {
  await kiln.stop();
});

describe('a build', () => {
  it.each(['builder', 'api', 'signer', 'redis'])(
    'ends well though its %s is killed meanwhile',
    async (role) => {
      const built = build(await slowSource(3));
      await untilBuilding();
      process.kill(role === 'redis' ? await redisProcess() : processOf(role), 'SIGKILL');
      expect(await built).toMatchObject({ state: 'succeeded', signature: { kind: 'signed' } });
      expect(await containers()).toEqual([]);
    },
  );

  it('goes on after kilnd itself was killed and started again', async () => {
    const source = await slowSource(3);
    build(source).catch(() => {});
    const { id } = await untilBuilding();
    const roles = ['api', 'builder', 'signer'].map(processOf);
    kiln.process.kill('SIGKILL');
    for (const pid of roles) await untilGone(pid);
    kiln = await startKiln(data, SETTINGS);
    expect(await build(source)).toMatchObject({ id, state: 'succeeded' });
    expect(await containers()).toEqual([]);
  });

  it.each([
    ['that ends soon after', 2],
    ['that another slot has begun again by then', 18],
  ])('goes on though Redis has lost everything: one %s', async (_which, seconds) => {
    const built = build(await slowSource(seconds));
    await untilBuilding();
    await mustRun('redis-cli', ['-s', join(data, 'redis/redis.sock'), 'flushall']);
    expect(await built).toMatchObject({ state: 'succeeded' });
  });

  it('is cancelled by ^C of the only one who waits, at once and without a trace', async () => {
    const { id, seconds } = await interruptWhileBuilding(await slowSource(20));
    expect(seconds).toBeLessThan(8);
    expect(await kiln.json<BuildView>('show', id)).toMatchObject({ state: 'cancelled' });
  });

  it('is cancelled along with the one that was waited for and is built against it', async () => {
    const needed = await slowSource(20);
    await kiln.json('source', 'push', needed);
    const source = await dkmsSource('waits-for-slow', `BUILD_DEPENDS[0]=slow${count}`);
    const { id } = await interruptWhileBuilding(source);
    expect(await kiln.json<BuildView>('show', id)).toMatchObject({
      state: 'cancelled',
      source: { name: `slow${count}` },
    });
  });

  it('goes on for the others when one of those who wait withdraws', async () => {
    const source = await slowSource(4);
    const environment = {
      ...process.env,
      KILN_SERVER: kiln.url,
      KILN_TOKEN_FILE: join(data, 'admin.token'),
    };
    const client = spawn(CLIENT, ['build', source, '-k', shared.release], {
      env: environment,
      stdio: 'ignore',
    });
    await untilBuilding();
    const other = build(source);
    await sleep(500);
    client.kill('SIGINT');
    expect(await other).toMatchObject({ state: 'succeeded' });
  });

  it('ends when its time is over, and says so', async () => {
    const { status, stderr } = await kiln.kiln(
      'build',
      await slowSource(60),
      '-k',
      shared.release,
      '-q',
    );
    expect(status).toBe(1);
    expect(stderr).toMatch(/took over 25 seconds, the limit here \(timed-out\)/);
    expect(await containers()).toEqual([]);
  });
});

describe('kilnd', () => {
  it('does not start twice on one directory', async () => {
    await expect(startKiln(data)).rejects.toThrow(/another kilnd already runs on/);
  });

  it('keeps its data, key and token to itself', async () => {
    for (const [file, mode] of [
      ['', 0o700],
      ['admin.token', 0o600],
      ['signing.pem', 0o600],
      ['redis', 0o700],
    ] as const) {
      expect((await stat(join(data, file))).mode & 0o777).toBe(mode);
    }
  });

  it('lets no process but the signer’s know where the key is', async () => {
    const knows = async (pid: number): Promise<boolean> =>
      (await readFile(`/proc/${pid}/environ`, 'utf8')).includes('signing.pem');
    expect(
      await Promise.all(['api', 'builder', 'signer'].map((role) => knows(processOf(role)))),
    ).toEqual([false, false, true]);
  });

  it('ends cleanly on SIGTERM, in the middle of a build, and goes on with it after', async () => {
    const source = await slowSource(5);
    build(source).catch(() => {});
    const { id } = await untilBuilding();
    const roles = [...['api', 'builder', 'signer'].map(processOf), await redisProcess()];
    expect(await kiln.stop()).toBe(0);
    for (const pid of roles) expect(() => process.kill(pid, 0)).toThrow('ESRCH');
    expect(await containers()).toEqual([]);
    kiln = await startKiln(data, SETTINGS);
    expect(await build(source)).toMatchObject({ id, state: 'succeeded' });
  });

  it('says what is wrong with its arguments', async () => {
    const { status, stderr } = await run(NODE, [KILND, 'bilder']);
    expect({ status, stderr }).toEqual({
      status: 2,
      stderr: expect.stringMatching(/no role "bilder"; there are api, builder and signer/),
    });
  });
});

describe('a full disk', () => {
  it('is said to the client, keeps nothing half-written, and is no trouble any more when there is room', async () => {
    const place = await freshDirectory('full');
    await mkdir(join(place, 'blobs'), { recursive: true });
    await mustRun('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', join(place, 'blobs')]);
    const small = await startKiln(place, { KILN_LOG_LEVEL: 'error' });
    try {
      const { status, stderr } = await small.kiln('kernel', 'push', shared.headers, '-q');
      expect({ status, stderr }).toEqual({
        status: 5,
        stderr: expect.stringMatching(/disk is full; nothing was kept/),
      });
      expect(await readdir(join(place, 'blobs/arriving'))).toEqual([]);
      expect((await small.kiln('source', 'push', shared.source)).status).toBe(0);
      await mustRun('mount', ['-o', 'remount,size=200m', join(place, 'blobs')]);
      expect((await small.kiln('kernel', 'push', shared.headers)).status).toBe(0);
    } finally {
      await small.stop();
      await mustRun('umount', [join(place, 'blobs')]);
    }
  });
});
