import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import type { BuildView } from '../../services/core/protocol/build.ts';
import { containersOf } from '../machine/containers.ts';
import { heldSource, letGo } from '../machine/held-build.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { KILND, NODE } from '../machine/places.ts';
import { sharedKiln } from '../machine/shared.ts';
import { until } from '../machine/until.ts';

const kiln = sharedKiln();
/** What this Kiln's keys in Redis and its containers' labels begin with. */
const PREFIX = `kiln-${createHash('sha256').update(kiln.data).digest('hex').slice(0, 12)}`;

/** Starts another builder of the shared Kiln in a directory; its exit status and last words, or `null` and its log once it is at work. */
const anotherBuilder = async (cache: string): Promise<{ status: number | null; log: string }> => {
  const at = (name: string): string => join(kiln.data, name);
  const child = spawn(NODE, [KILND, 'builder'], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    env: {
      PATH: process.env['PATH'],
      KILN_REDIS: `unix:${at('redis/redis.sock')}`,
      KILN_PREFIX: PREFIX,
      KILN_BLOBS: at('blobs'),
      KILN_KEY: at('keys/builder/key.pem'),
      KILN_COORDINATOR: at('keys/public/api.pub'),
      KILN_BUILDER_CACHE: cache,
      KILN_BUILD_USERS: '2100001000-2100001009',
    },
  });
  let log = '';
  child.stderr?.on('data', (piece: Buffer) => (log += piece.toString()));
  return new Promise((resolve) => {
    child.once('message', () => child.kill('SIGTERM'));
    child.once('exit', (status) => resolve({ status, log }));
  });
};

describe('a second builder on the same Docker', () => {
  it('does not start in the cache of the first, and takes no container from it, there or elsewhere', async () => {
    const building = kiln.json<BuildView>(
      'build',
      await heldSource('two-builders'),
      '-k',
      kiln.kernel,
    );
    // Others' builds on this Kiln come and go.
    const running = async (): Promise<readonly string[]> => {
      const builds = await kiln.json<BuildView[]>('list');
      const id = builds.find(({ source }) => source.name === 'two-builders')?.id ?? 'none yet';
      return containersOf(kiln.data, 'status=running', `label=kiln.build=${PREFIX}.${id}`);
    };
    await until('the build to run', async () => (await running()).length === 1);
    const [container] = await running();

    const cache = join(kiln.data, 'builder');
    const alias = join(await freshDirectory('alias'), 'builder');
    await symlink(cache, alias);
    expect(await anotherBuilder(alias)).toEqual({
      status: 2,
      log: `kilnd: another builder already works in ${cache}; give each builder a KILN_BUILDER_CACHE of its own\n`,
    });
    const elsewhere = await anotherBuilder(join(await freshDirectory('elsewhere'), 'builder'));
    expect(elsewhere.status).toBe(0);

    expect(await running()).toEqual([container]);
    expect((await letGo(kiln.data, building)).state).toBe('succeeded');
  });
});
