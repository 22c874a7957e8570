import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { BuildView } from '../../services/core/protocol/build.ts';
import { containersOf, signalsTo } from '../machine/containers.ts';
import { startRelay } from '../machine/faulty-network.ts';
import { fewHeaders } from '../machine/few-headers.ts';
import { heldSource as heldSourceOf, letGo as letGoOn } from '../machine/held-build.ts';
import { pinToolchain, startKiln, type KilnService } from '../machine/kiln-service.ts';
import { dkmsSource, freshDirectory } from '../machine/make-source.ts';
import { CLIENT, KILND, NODE } from '../machine/places.ts';
import { mustRun, run } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';
import { until } from '../machine/until.ts';

/** Nothing is lost when a process dies, and nothing is left when Kiln ends. Uses a Kiln of its own. */

const shared = sharedKiln();
const data = await freshDirectory('mortal');
let kiln: KilnService;
let count = 0;

/** Another source whose build is held until `letGo`. */
const heldSource = (): Promise<string> => {
  count += 1;
  return heldSourceOf(`held${count}`);
};
const letGo = <T>(awaited: Promise<T>): Promise<T> => letGoOn(data, awaited);

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
const untilGone = (pid: number): Promise<void> =>
  until(`process ${pid} has ended`, () => {
    try {
      return !process.kill(pid, 0);
    } catch {
      return true;
    }
  });

const untilBuilding = async (): Promise<BuildView> => {
  await until('a build has begun', async () => {
    return (await containersOf(data, 'label=kiln.build', 'status=running')).length > 0;
  });
  const isBuilding = ({ state }: BuildView): boolean => state === 'building';
  let building: BuildView | undefined;
  await until('a build is under way', async () => {
    building = (await kiln.json<BuildView[]>('list')).find(isBuilding);
    return building !== undefined;
  });
  return building as BuildView;
};

const build = (source: string): Promise<BuildView> =>
  kiln.json<BuildView>('build', source, '-k', shared.release);

/** A client that asks for a build and waits, through some address of the service. */
const waitingClient = (source: string, url = kiln.url): ChildProcess =>
  spawn(CLIENT, ['build', source, '-k', shared.release], {
    env: { ...process.env, KILN_SERVER: url, KILN_TOKEN_FILE: join(data, 'admin.token') },
    stdio: ['ignore', 'ignore', 'pipe'],
  });

/** Ends a client once its build, or one that this waits for, is under way; resolves when nothing of that is left. */
const interruptWhileBuilding = async (
  source: string,
  signal: NodeJS.Signals = 'SIGINT',
  times = 1,
): Promise<{
  readonly id: string;
  readonly signals: readonly string[];
  readonly words: string;
}> => {
  const client = waitingClient(source);
  let words = '';
  client.stderr?.on('data', (text: Buffer) => (words += text.toString()));
  const { id } = await untilBuilding();
  const ended = once(client, 'close');
  const since = Date.now();
  for (let time = 0; time < times && client.kill(signal); time += 1) await sleep(1);
  expect(await ended).toEqual([130, null]);
  await until('its container has gone', async () => (await containers()).length === 0);
  return { id, signals: await signalsTo(data, since), words };
};

/** Long beyond what a build takes that is let go, on any machine. */
const BUILD_SECONDS = 300;
/** Starts a Kiln with room for two builds, so that one may begin what another has not ended. */
const start = (seconds = BUILD_SECONDS): Promise<KilnService> =>
  startKiln(data, {
    KILN_BUILD_SECONDS: String(seconds),
    KILN_CONCURRENCY: '2',
    KILN_LOG_LEVEL: 'warn',
  });

beforeAll(async () => {
  kiln = await start();
  await pinToolchain(kiln);
  await kiln.json('kernel', 'push', await fewHeaders(shared.release));
});

afterAll(async () => {
  await kiln.stop();
});

describe('a build', () => {
  it.each(['builder', 'api', 'signer', 'redis'])(
    'ends well though its %s is killed meanwhile',
    async (role) => {
      const built = build(await heldSource());
      await untilBuilding();
      process.kill(role === 'redis' ? await redisProcess() : processOf(role), 'SIGKILL');
      expect(await letGo(built)).toMatchObject({
        state: 'succeeded',
        signature: { kind: 'signed' },
      });
      expect(await containers()).toEqual([]);
    },
  );

  it('goes on after kilnd itself was killed and started again', async () => {
    const source = await heldSource();
    build(source).catch(() => {});
    const { id } = await untilBuilding();
    const roles = ['api', 'builder', 'signer'].map(processOf);
    kiln.process.kill('SIGKILL');
    for (const pid of roles) await untilGone(pid);
    kiln = await start();
    expect(await letGo(build(source))).toMatchObject({ id, state: 'succeeded' });
    expect(await containers()).toEqual([]);
  });

  it.each([
    ['that ends before its queue knows of it again', false],
    ['that its queue has given out again', true],
  ])('goes on though Redis has lost everything: one %s', async (_which, isAgain) => {
    const built = build(await heldSource());
    await untilBuilding();
    const putBack = (): number => kiln.output().split('put back on its queue').length;
    const before = putBack();
    await mustRun('redis-cli', ['-s', join(data, 'redis/redis.sock'), 'flushall']);
    if (isAgain) {
      await until('it is put back on its queue', () => putBack() > before);
      // Time enough to begin it again.
      await sleep(3000);
    }
    expect(await letGo(built)).toMatchObject({ state: 'succeeded' });
    // It may have been begun a second time.
    await letGo(until('nothing is left of it', async () => (await containers()).length === 0));
  });

  it('is cancelled by ^C of the only one who waits, at once and without a trace', async () => {
    const { id, signals } = await interruptWhileBuilding(await heldSource());
    // Docker gives a container that is asked to end ten seconds; this one is not asked.
    expect(signals).toEqual(['9']);
    expect(await kiln.json<BuildView>('show', id)).toMatchObject({ state: 'cancelled' });
  });

  it('is cancelled also where its client gets the signal more than once, as timeout(1) sends it', async () => {
    const { id, words } = await interruptWhileBuilding(await heldSource(), 'SIGTERM', 20);
    expect(words).toMatch(/the request is taken back/);
    expect(await kiln.json<BuildView>('show', id)).toMatchObject({ state: 'cancelled' });
  });

  it('is cancelled along with the one that was waited for and is built against it', async () => {
    const needed = await heldSource();
    await kiln.json('source', 'push', needed);
    const source = await dkmsSource('waits-for-held', `BUILD_DEPENDS[0]=held${count}`);
    const { id } = await interruptWhileBuilding(source);
    expect(await kiln.json<BuildView>('show', id)).toMatchObject({
      state: 'cancelled',
      source: { name: `held${count}` },
    });
  });

  it('goes on for the others when one of those who wait gives up', async () => {
    const source = await heldSource();
    const client = waitingClient(source);
    const { id, attempt } = await untilBuilding();
    const relay = await startRelay(kiln.url);
    const other = waitingClient(source, relay.url);
    await until('the other waits, too', () => relay.asked().includes(`/builds/${id}/events`));
    const [left, ended] = [once(client, 'exit'), once(other, 'exit')];
    client.kill('SIGINT');
    expect(await left).toEqual([130, null]);
    expect(await letGo(ended)).toEqual([0, null]);
    expect(await kiln.json('show', id)).toMatchObject({ state: 'succeeded', attempt });
    await relay.close();
  });

  it('ends when its time is over, and says so', async () => {
    await kiln.stop();
    kiln = await start(5);
    const source = await heldSource();
    const { status, stderr } = await kiln.kiln('build', source, '-k', shared.release, '-q');
    expect(status).toBe(1);
    expect(stderr).toMatch(/took over 5 seconds, the limit of this builder \(timed-out\)/);
    expect(await containers()).toEqual([]);
    await kiln.stop();
    kiln = await start();
  });
});

describe('kilnd', () => {
  it('does not start twice on one directory', async () => {
    await expect(startKiln(data)).rejects.toThrow(/another kilnd runs on/);
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
    const source = await heldSource();
    build(source).catch(() => {});
    const { id } = await untilBuilding();
    const roles = [...['api', 'builder', 'signer'].map(processOf), await redisProcess()];
    expect(await kiln.stop()).toBe(0);
    for (const pid of roles) expect(() => process.kill(pid, 0)).toThrow('ESRCH');
    expect(await containers()).toEqual([]);
    kiln = await start();
    expect(await letGo(build(source))).toMatchObject({ id, state: 'succeeded' });
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
        stderr: expect.stringMatching(/disk is full; try again/),
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
