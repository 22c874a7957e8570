import { createReadStream } from 'node:fs';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { digestOf } from '../../services/core/digest.ts';
import type { BuildView } from '../../services/core/protocol/build.ts';
import type { ToolchainView } from '../../services/core/protocol/toolchain.ts';
import { containersOf } from '../machine/containers.ts';
import { fewHeaders } from '../machine/few-headers.ts';
import { heldSource, letGo } from '../machine/held-build.ts';
import { pinToolchain, startKiln, type KilnService } from '../machine/kiln-service.ts';
import { dkmsSource, freshDirectory } from '../machine/make-source.ts';
import { redisAttacker, type RedisAttacker } from '../machine/redis-attacker.ts';
import { sharedKiln } from '../machine/shared.ts';
import { until } from '../machine/until.ts';
import { moduleBytes } from '../unit/samples.ts';

/**
 * Redis carries messages and vouches for none. Somebody who can write to it gets nothing by that: no signature, no word in the
 * record, no build at a builder. Each message is tried as it would be without signatures, and signed with a key that nobody
 * configured; each was taken before messages were signed. After each an honest build must come out signed.
 */
const shared = sharedKiln();
let data: string;
let kiln: KilnService;
let kernel: string;
let attacker: RedisAttacker;
let count = 0;
beforeAll(async () => {
  data = await freshDirectory('forged');
  kiln = await startKiln(data, { KILN_LOG_LEVEL: 'warn' });
  await pinToolchain(kiln);
  kernel = (await kiln.json<{ digest: string }>('kernel', 'push', await fewHeaders(shared.release)))
    .digest;
  attacker = redisAttacker(data);
});
afterAll(async () => {
  await attacker.close();
  await kiln.stop();
});

/** A module that nobody built: the service has its bytes, as anybody with a token may send them. */
const evil = moduleBytes(['name=evil', `vermagic=${shared.release} SMP`]);
const blobFile = (digest: string): string =>
  join(data, 'blobs', digest.slice(7, 9), digest.slice('sha256:'.length));
const storeEvil = async (): Promise<void> => {
  const file = blobFile(digestOf(evil));
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, evil);
};
/** How many blobs begin with its bytes: one, or with a signature behind it two. */
const evilBlobs = async (): Promise<number> => {
  const names = await readdir(join(data, 'blobs'), { recursive: true, withFileTypes: true });
  const files = names.filter((entry) => entry.isFile());
  const found = await Promise.all(
    files.map(async ({ parentPath, name }) => {
      const beginning = createReadStream(join(parentPath, name), { end: evil.length - 1 });
      return Buffer.concat((await beginning.toArray()) as Buffer[]).equals(evil);
    }),
  );
  return found.filter(Boolean).length;
};

/** The process of a role, from what kilnd last said of it. */
const processOf = (role: string): number =>
  Number(
    [...kiln.output().matchAll(new RegExp(`${role} is ready \\(process (\\d+)\\)`, 'g'))].at(
      -1,
    )?.[1],
  );
/** Does something while a role stands still, so that what it is to do is still to be done. */
const whileStopped = async <T>(role: string, work: () => Promise<T>): Promise<T> => {
  process.kill(processOf(role), 'SIGSTOP');
  try {
    return await work();
  } finally {
    process.kill(processOf(role), 'SIGCONT');
  }
};

const show = (id: string): Promise<BuildView> => kiln.json<BuildView>('show', id);
const api = async (method: string, path: string, body?: object): Promise<unknown> => {
  const response = await fetch(`${kiln.url}/v1${path}`, {
    method,
    headers: {
      Authorization: `Bearer ${await kiln.adminToken()}`,
      'Content-Type': 'application/json',
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return response.json();
};
/** Asks for a build and does not wait for it. */
const ask = async (source: string): Promise<BuildView> => {
  const pushed = await kiln.json<{ digest: string }>('source', 'push', source);
  const wanted = { source: { digest: pushed.digest }, kernel: { digest: kernel } };
  return ((await api('POST', '/builds', wanted)) as { build: BuildView }).build;
};

/** An honest build of a new source: whatever stood on the queues before it has been looked at by then. */
const honestBuild = async (): Promise<BuildView> => {
  count += 1;
  const source = await dkmsSource(`honest${count}`, '');
  const made = await kiln.json<BuildView>('build', source, '-k', kernel);
  expect(made).toMatchObject({ state: 'succeeded', signature: { kind: 'signed' } });
  return made;
};

/** A build that is under way and held. */
const heldBuild = async (): Promise<BuildView> => {
  count += 1;
  const { id } = await ask(await heldSource(`captive${count}`));
  await until('the build is under way', async () => {
    return (await show(id)).state === 'building' && (await containersOf(data)).length > 0;
  });
  return show(id);
};
const ended = async (id: string): Promise<BuildView> => {
  await until(`${id} has ended`, async () => (await show(id)).finishedAt !== null);
  return show(id);
};

/** What is dropped is named in the log, once for each. */
const dropped = (queue: string, name: string): number =>
  kiln
    .output()
    .split('\n')
    .filter((line) => line.includes(`dropped \\"${name}`) && line.includes(`from ${queue}`)).length;

const recipe = { steps: [], modules: { kind: 'every' }, mayLink: true, passedOver: [] };
const evilModule = { name: 'evil', unsigned: digestOf(evil), size: evil.length, modinfo: [] };

describe('whoever writes to Redis', () => {
  it('gets no signature for bytes of their own with a sign job', async () => {
    await storeEvil();
    const job = {
      build: 'f'.repeat(24),
      attempt: 0,
      fingerprint: digestOf('fingerprint'),
      hash: 'sha256',
      inputs: {
        source: { name: 'evil', version: '1', tree: digestOf('tree') },
        kernel: { release: shared.release, tree: digestOf('kernel') },
        toolchain: digestOf('toolchain'),
        script: digestOf('script'),
      },
      recipe,
      modules: [evilModule],
    };
    await attacker.forge('signer', 'evil-0', job);
    await honestBuild();
    expect(await evilBlobs()).toBe(1);
    expect(dropped('signer', 'evil-0')).toBe(2);
  });

  it('gets no build made with a job of their own', async () => {
    const { id } = await whileStopped('builder', async () => {
      const wanted = await ask(await dkmsSource('victim', ''));
      const genuine = await attacker.steal('builder', `${wanted.id}-0`);
      const job = JSON.parse(genuine?.payload ?? JSON.stringify(genuine)) as object;
      await attacker.forge('builder', 'forged-7', { ...job, build: 'f'.repeat(24), attempt: 7 });
      // And the genuine one under another name.
      await attacker.add('builder', 'forged-8', genuine);
      return wanted;
    });
    await ended(id);
    await honestBuild();
    const runs = await attacker.redis.keys(`${attacker.prefix}:log:*`);
    expect(runs.filter((key) => key.includes('fff') || key.endsWith('-7'))).toEqual([]);
    expect(dropped('builder', 'forged-7')).toBe(2);
    expect(dropped('builder', 'forged-8')).toBe(1);
    expect(await show(id)).toMatchObject({ state: 'succeeded', attempt: 0 });
  });

  it('cannot say what comes out of a build', async () => {
    await storeEvil();
    const { id, attempt } = await heldBuild();
    const of = { build: id, attempt };
    const failure = { code: 'compile-failed', message: 'so says the attacker', lines: [] };
    const log = digestOf(evil);
    for (const [index, outcome] of [
      { kind: 'excluded', ...of, reason: 'so says the attacker', log },
      { kind: 'failed', ...of, failure, log: null },
      {
        kind: 'built',
        ...of,
        recipe,
        modules: [evilModule],
        exports: log,
        log,
        timings: { prepare: 0, sandbox: 0, check: 0 },
      },
      {
        kind: 'signed',
        ...of,
        key: 'x',
        modules: [{ name: 'evil', signed: log }],
        attestation: log,
      },
      { kind: 'unsignable', ...of, failure },
    ].entries()) {
      await attacker.forge('outcomes', `outcome${index}`, outcome);
      await until('it is looked at', async () => dropped('outcomes', `outcome${index}`) === 2);
      expect(await show(id)).toMatchObject({ state: 'building', modules: [] });
    }
    expect(await letGo(data, ended(id))).toMatchObject({
      state: 'succeeded',
      signature: { kind: 'signed' },
      modules: [{ name: expect.stringMatching(/^captive/) }],
    });
    expect(await evilBlobs()).toBe(1);
  });

  it('cannot say that a build was signed', async () => {
    await storeEvil();
    const built = await whileStopped('signer', async () => {
      const { id, attempt } = await ask(await dkmsSource('unsigned', ''));
      await until('it waits for the signer', async () => (await show(id)).state === 'signing');
      await attacker.forge('outcomes', 'signature', {
        kind: 'signed',
        build: id,
        attempt,
        key: 'f'.repeat(64),
        modules: [{ name: 'unsigned', signed: digestOf(evil) }],
        attestation: digestOf(evil),
      });
      await until('it is looked at', async () => dropped('outcomes', 'signature') === 2);
      expect(await show(id)).toMatchObject({ state: 'signing', signature: null });
      return id;
    });
    const view = await ended(built);
    expect(view).toMatchObject({ state: 'succeeded', signature: { kind: 'signed' } });
    expect(view.modules[0]?.signed).not.toBe(digestOf(evil));
  });

  it('cannot name another signer', async () => {
    const before = await api('GET', '/signers');
    const key = 'e'.repeat(64);
    await attacker.forge('outcomes', `signer-${key}`, { kind: 'signer', key, certificate: 'mine' });
    await honestBuild();
    expect(await api('GET', '/signers')).toEqual(before);
  });

  it('cannot say what a rebuild gave', async () => {
    const { id, modules } = await honestBuild();
    const rebuild = await whileStopped('builder', async () => {
      const begun = (await api('POST', `/builds/${id}/rebuild`)) as { id: string };
      await attacker.forge('outcomes', 'rebuilding', { kind: 'rebuilding', rebuild: begun.id });
      const outcome = { kind: 'rebuilt', rebuild: begun.id, modules: [evilModule], failure: null };
      await attacker.forge('outcomes', 'rebuilt', outcome);
      await until('it is looked at', async () => dropped('outcomes', 'rebuilt') === 2);
      return begun;
    });
    const state = async (): Promise<string> =>
      ((await api('GET', `/rebuilds/${rebuild.id}`)) as { state: string }).state;
    await until('the rebuild has ended', async () => (await state()) !== 'running');
    expect(await state()).toBe('same');
    expect((await show(id)).modules).toEqual(modules);
  });

  it('cannot say what a toolchain contains', async () => {
    const rootfs = Buffer.alloc(10_240);
    const digest = digestOf(rootfs);
    const sent = await fetch(`${kiln.url}/v1/blobs/${digest}`, {
      method: 'PUT',
      headers: {
        Authorization: `Bearer ${await kiln.adminToken()}`,
        'Content-Type': 'application/octet-stream',
      },
      body: new Uint8Array(rootfs),
    });
    expect(sent.status).toBe(201);
    const [good] = await kiln.json<ToolchainView[]>('toolchain', 'list');
    await whileStopped('builder', async () => {
      await api('POST', '/toolchains', { blob: digest, name: 'hollow' });
      const of = { toolchain: digest, attempt: 0 };
      await attacker.forge('outcomes', 'measured', {
        kind: 'measured',
        ...of,
        contents: good?.contents,
      });
      await attacker.forge('outcomes', 'unmeasurable', {
        kind: 'unmeasurable',
        ...of,
        problem: 'so says the attacker',
      });
      await until('they are looked at', async () => dropped('outcomes', 'unmeasurable') === 2);
    });
    const hollow = async (): Promise<ToolchainView | undefined> =>
      (await kiln.json<ToolchainView[]>('toolchain', 'list')).find(
        (each) => each.digest === digest,
      );
    await until('it was measured', async () => (await hollow())?.state !== 'measuring');
    expect(await hollow()).toMatchObject({
      state: 'refused',
      problem: expect.not.stringContaining('attacker'),
    });
  });

  it('cannot cancel a build, nor start one', async () => {
    const { id, attempt } = await heldBuild();
    const run = `${id}-${attempt}`;
    await attacker.redis.set(`${attacker.prefix}:cancel:${run}`, '1');
    await attacker.redis.publish(`${attacker.prefix}:cancelled`, run);
    const waiting = await ask(await dkmsSource('waits', ''));
    await attacker.forge('outcomes', 'begun', { kind: 'started', build: waiting.id, attempt: 0 });
    await until('it is looked at', async () => dropped('outcomes', 'begun') === 2);
    expect((await show(waiting.id)).state).toBe('queued');
    expect(await letGo(data, ended(id))).toMatchObject({ state: 'succeeded', attempt: 0 });
    expect((await ended(waiting.id)).state).toBe('succeeded');
  });

  it('holds nobody up with what is no message at all', async () => {
    const { redis, prefix } = attacker;
    for (const queue of ['builder', 'signer', 'outcomes']) {
      await attacker.add(queue, 'nothing', null);
      await attacker.add(queue, 'huge', 'x'.repeat(64 * 1024 ** 2));
      await attacker.add(queue, 'deep', { payload: { payload: [] }, key: 1, signature: {} });
      const raw = async (name: string, fields: Record<string, string>): Promise<void> => {
        await redis.hset(`${prefix}:${queue}:${name}`, fields);
        await redis.rpush(`${prefix}:${queue}:wait`, name);
        await redis.zadd(`${prefix}:${queue}:marker`, 0, '0');
      };
      await raw('no-json', { name: queue, data: '{', opts: '{}' });
      await raw('no-fields', { name: queue });
      await raw('no-options', { name: queue, data: '{}', opts: '[' });
      await redis.rpush(`${prefix}:${queue}:wait`, 'not-there');
      await redis.set(`${prefix}:${queue}:no-hash`, 'x');
      await redis.rpush(`${prefix}:${queue}:wait`, 'no-hash');
    }
    await honestBuild();
    const names = ['nothing', 'huge', 'deep', 'no-json', 'no-fields', 'no-options', 'no-hash'];
    for (const queue of ['builder', 'signer', 'outcomes'])
      for (const name of names)
        await until(`${name} is gone from ${queue}`, () => dropped(queue, name) > 0);
  });

  it('takes no build’s place with a job of its name', async () => {
    const id = await whileStopped('builder', async () => {
      const wanted = await ask(await dkmsSource('displaced', ''));
      await attacker.redis.hset(`${attacker.prefix}:builder:${wanted.id}-0`, 'data', '"mine"');
      return wanted.id;
    });
    expect((await ended(id)).state).toBe('succeeded');
  });

  it('gets nothing by sending once more what was signed for an attempt that is over', async () => {
    count += 1;
    const source = await heldSource(`again${count}`);
    const { id } = await ask(source);
    const outcomes = `${attacker.prefix}:outcomes:`;
    await until('it is under way', async () => (await containersOf(data)).length > 0);
    const job = await attacker.steal('builder', `${id}-0`);
    const old = await whileStopped('api', async () => {
      let key: string | undefined;
      const find = async (): Promise<void> => {
        await until('the outcome is there', async () => {
          const keys = await attacker.redis.keys(`${outcomes}${id}-0-built*`);
          [key] = keys;
          return key !== undefined;
        });
      };
      await letGo(data, find());
      const name = (key ?? '').slice(outcomes.length);
      const message = await attacker.steal('outcomes', name);
      // It never arrives, so that the build is not over.
      await attacker.redis.del(key ?? '');
      return { name, message };
    });
    await kiln.kiln('cancel', id);
    await until('it is cancelled', async () => (await show(id)).state === 'cancelled');
    expect((await ask(source)).attempt).toBe(1);
    await until('it is under way again', async () => (await show(id)).state === 'building');
    await attacker.add('outcomes', old.name, old.message);
    await attacker.add('builder', `${id}-0`, job);
    await attacker.add('outcomes', `${id}-1-built`, old.message);
    await until('it is looked at', async () => dropped('outcomes', `${id}-1-built`) === 1);
    expect(await show(id)).toMatchObject({ state: 'building', attempt: 1, modules: [] });
    expect(await letGo(data, ended(id))).toMatchObject({ state: 'succeeded', attempt: 1 });
  });
});

describe('the keys', () => {
  it('are each for its own role alone, and public where they are to be known', async () => {
    const keys = join(data, 'keys');
    const names = (await readdir(keys, { recursive: true })).sort();
    expect(names).toEqual([
      'api',
      'api/key.pem',
      'builder',
      'builder/key.pem',
      'public',
      'public/api.pub',
      'public/builder.pub',
      'public/repository.asc',
      'public/signer.pub',
      'signer',
      'signer/key.pem',
      'signer/repository.asc',
    ]);
    for (const role of ['api', 'builder', 'signer']) {
      const environment = await readFile(`/proc/${processOf(role)}/environ`, 'utf8');
      const told = ['api', 'builder', 'signer'].filter((each) =>
        environment.includes(`${keys}/${each}/key.pem`),
      );
      expect(told).toEqual([role]);
    }
  });
});
