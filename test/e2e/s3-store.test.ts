import { copyFile, mkdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { digestOf, type Digest } from '../../services/core/digest.ts';
import type { BuildView } from '../../services/core/protocol/build.ts';
import { bucketSettings, bucketStore, putBytes } from '../machine/blob-stores.ts';
import { startRoles, type KilnRoles } from '../machine/kiln-roles.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { KILND, NODE, TOOLCHAIN } from '../machine/places.ts';
import { run, type Ran } from '../machine/run.ts';
import { startS3Server, type S3Server } from '../machine/s3-server.ts';
import { sharedKiln } from '../machine/shared.ts';

/** A whole Kiln, each role started by itself, whose blobs are in a bucket. */

const shared = sharedKiln();
let server: S3Server;
let store: Awaited<ReturnType<typeof bucketStore>>;
let settings: NodeJS.ProcessEnv;
let data: string;
let kiln: KilnRoles;

beforeAll(async () => {
  server = await startS3Server();
  store = await bucketStore(server);
  data = await freshDirectory('roles');
  settings = await bucketSettings(data, server, store.place);
  // It signs with the shared Kiln's key, so that signed modules can be compared.
  for (const folder of ['signer', 'public'])
    await mkdir(join(data, 'keys', folder), { recursive: true });
  await copyFile(join(shared.data, 'signing.pem'), join(data, 'keys/signer/signing.pem'));
  await copyFile(join(shared.data, 'signing.crt'), join(data, 'keys/public/signing.crt'));
  kiln = await startRoles(data, { settings });
});
afterAll(async () => {
  await kiln.stop();
  await server.stop();
});

const inBucket = async (): Promise<ReadonlySet<string>> => {
  const found = new Set<string>();
  for await (const { digest } of store.blobs.list()) found.add(digest);
  return found;
};
const hasModule = async (build: BuildView): Promise<boolean> => {
  const output = await freshDirectory('module');
  await kiln.json('build', 'v4l2loopback', '-k', shared.kernel, '-o', output);
  const [module] = build.modules;
  const file = await readFile(join(output, `${module?.name ?? ''}.ko`));
  return digestOf(file) === module?.signed;
};

describe('a Kiln whose blobs are in a bucket', () => {
  let build: BuildView;

  it('builds and signs what one with a directory does, to the byte, and keeps none of it on its own disk', async () => {
    await kiln.json('toolchain', 'push', TOOLCHAIN.tar, '--name', TOOLCHAIN.name);
    await kiln.json('kernel', 'push', shared.headers);
    await kiln.json('source', 'push', shared.source);
    build = await kiln.json<BuildView>('build', 'v4l2loopback', '-k', shared.kernel);
    const other = await shared.json<BuildView>('build', 'v4l2loopback', '-k', shared.kernel);
    expect(build.state).toBe('succeeded');
    expect(build.signature).toMatchObject({ kind: 'signed' });
    expect(build.modules.length).toBeGreaterThan(0);
    expect(build.modules).toEqual(other.modules);
    expect(await hasModule(build)).toBe(true);

    const blobs = await inBucket();
    const { log, attestation, modules } = build;
    for (const blob of [
      log,
      attestation,
      ...modules.flatMap((each) => [each.unsigned, each.signed]),
    ])
      expect([blob, blobs.has(blob ?? 'none')]).toEqual([blob, true]);
    expect(await stat(join(data, 'blobs')).catch(() => null)).toBeNull();
    expect(await store.waiting()).toEqual([]);
    expect(kiln.output()).not.toContain(server.secret);
  });

  it('answers with parts of a blob as they are, and with a sentence where its bytes were exchanged', async () => {
    const [module] = build.modules;
    const digest = module?.signed ?? digestOf('');
    const get = async (headers: Record<string, string> = {}): Promise<Response> =>
      fetch(`${kiln.url}/v1/artifacts/${digest}`, {
        headers: { Authorization: `Bearer ${await kiln.adminToken()}`, ...headers },
      });
    const whole = Buffer.from(await (await get()).arrayBuffer());
    expect(digestOf(whole)).toBe(digest);
    const part = await get({ Range: 'bytes=100-299' });
    expect(part.status).toBe(206);
    expect(Buffer.from(await part.arrayBuffer()).equals(whole.subarray(100, 300))).toBe(true);
    await store.lay(digest, Buffer.concat([whole.subarray(0, -1), Buffer.from('?')]));
    const spoilt = await get();
    expect(spoilt.status).toBe(500);
    expect(await spoilt.json()).toMatchObject({ detail: expect.stringMatching(/is damaged/) });
    await store.lay(digest, whole);
    expect(await hasModule(build)).toBe(true);
  });

  it('says that it is not ready while the server is away, and goes on when it is back', async () => {
    await server.kill();
    const asked = ['build', 'v4l2loopback', '-k', shared.kernel, '-q', '--patience', '0'];
    const { status, stderr } = await kiln.kiln(...asked, '-o', await freshDirectory('module'));
    expect([status, stderr]).toEqual([5, expect.stringMatching(/the S3 server cannot be reached/)]);
    await server.revive();
    expect(await hasModule(build)).toBe(true);
  });

  it('loses by kilnd gc, two days later, what nobody needs, and nothing else', async () => {
    const before = await inBucket();
    const abandoned: Digest = await putBytes(store.blobs, 'abandoned');
    await kiln.stop();
    await server.kill();
    await server.revive('+2d');
    const gc = (...args: string[]): Promise<Ran> =>
      run('faketime', ['-f', '+2d', NODE, KILND, 'gc', '--data', data, ...args], {
        env: { PATH: process.env['PATH'], ...settings },
      });
    const line = new RegExp(`^blob ${abandoned}, 9 bytes: bytes that no record names`, 'm');
    expect(await gc('--dry-run')).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/^0 records and 1 blobs, 9 bytes: would be removed in all$/m),
    });
    const { status, stdout, stderr } = await gc();
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(line);
    await server.kill();
    await server.revive();
    expect(await inBucket()).toEqual(before);
    kiln = await startRoles(data, { settings });
    expect(await hasModule(build)).toBe(true);
  });
});
