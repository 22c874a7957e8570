import { execFileSync } from 'node:child_process';
import { mkdir, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { Readable } from 'node:stream';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { digestOf, hexOf, type Digest } from '../../services/core/digest.ts';
import type { BuildView } from '../../services/core/protocol/build.ts';
import { openBlobDirectory, type Blobs } from '../../services/storage/blobs.ts';
import { dkmsSource, freshDirectory } from '../machine/make-source.ts';
import { sharedKiln } from '../machine/shared.ts';
import { refusal } from '../unit/samples.ts';

/** Whoever writes below the blobs' directory (a broken builder, say) can spoil what is there, and has nothing else read, written or handed out by that. */

const placeIn = (directory: string, digest: Digest): string =>
  join(directory, hexOf(digest).slice(0, 2), hexOf(digest));
const put = async (blobs: Blobs, bytes: Buffer): Promise<Digest> =>
  (await blobs.put(Readable.from([bytes], { objectMode: false }), { limit: bytes.length })).digest;

/** What takes a blob's place, by what it is. */
const IMPOSTORS: readonly (readonly [string, (place: string) => unknown, RegExp])[] = [
  ['a link to another file', (place) => symlink('/etc/passwd', place), /a link is in its place/],
  ['a link to a device', (place) => symlink('/dev/zero', place), /a link is in its place/],
  [
    'a fifo',
    (place) => execFileSync('mkfifo', [place]),
    /something other than a file is in its place/,
  ],
  ['a directory', (place) => mkdir(place), /something other than a file is in its place/],
  ['other bytes', (place) => writeFile(place, 'others'), /its bytes have another digest/],
];

describe('a directory of blobs', () => {
  const text = Buffer.from('a blob');
  const digest = digestOf(text);
  let directory: string;
  let blobs: Blobs;
  const fresh = async (): Promise<void> => {
    directory = await freshDirectory('blobs');
    blobs = await openBlobDirectory(directory);
    await put(blobs, text);
  };

  it.each(IMPOSTORS)(
    'gives out nothing where %s stands in a blob’s place',
    async (_, make, words) => {
      await fresh();
      const place = placeIn(directory, digest);
      await rm(place);
      await make(place);
      for (const use of [blobs.open(digest), blobs.read(digest, 1000), blobs.check(digest)])
        await expect(use).rejects.toThrow(refusal('internal', words));
      await expect(blobs.open(digest, { start: 0, end: 1 })).rejects.toThrow(
        refusal('internal', words),
      );
    },
  );

  it.each(IMPOSTORS.slice(0, 3))(
    'has a blob again that is sent where %s stands',
    async (_, make) => {
      await fresh();
      const place = placeIn(directory, digest);
      await rm(place);
      await make(place);
      expect(await blobs.find(digest)).toBeNull();
      await put(blobs, text);
      expect(await blobs.read(digest, 1000)).toEqual(text);
      expect((await readFile('/etc/passwd', 'utf8')).startsWith('root:')).toBe(true);
    },
  );

  it('says what is in the way where a directory is', async () => {
    await fresh();
    await rm(placeIn(directory, digest));
    await mkdir(join(placeIn(directory, digest), 'full'), { recursive: true });
    await expect(put(blobs, text)).rejects.toThrow(
      refusal('internal', /a directory is in its place/),
    );
    expect(await readdir(join(directory, 'arriving'))).toEqual([]);
  });

  it('reads and writes nothing through a link in a folder’s place', async () => {
    await fresh();
    const elsewhere = await freshDirectory('elsewhere');
    const folder = dirname(placeIn(directory, digest));
    await rename(folder, join(elsewhere, 'stolen'));
    await symlink(join(elsewhere, 'stolen'), folder);
    await expect(blobs.open(digest)).rejects.toThrow(refusal('internal', /is a file or a link/));
    await expect(put(blobs, text)).rejects.toThrow(refusal('internal', /is a file or a link/));
    await expect(blobs.remove(digest)).rejects.toThrow(refusal('internal', /is a file or a link/));
    expect(await blobs.find(digest)).toBeNull();
    expect(await readdir(join(elsewhere, 'stolen'))).toEqual([hexOf(digest)]);
  });

  it('ends a stream before its last bytes where a large blob was changed', async () => {
    await fresh();
    const large = Buffer.alloc(5 * 1024 ** 2 + 7, 'x');
    const spoilt = await put(blobs, large);
    const place = placeIn(directory, spoilt);
    await writeFile(place, Buffer.concat([large.subarray(0, -1), Buffer.from('y')]));
    const got: Buffer[] = [];
    const reading = async (): Promise<void> => {
      for await (const piece of await blobs.open(spoilt)) got.push(piece as Buffer);
    };
    await expect(reading()).rejects.toThrow(refusal('internal', /another digest/));
    expect(Buffer.concat(got).length).toBeLessThan(large.length);
  });

  it('gives out any range of a blob as it is', async () => {
    await fresh();
    const large = Buffer.from(Array.from({ length: 3 * 1024 ** 2 + 5 }, (_, at) => at % 251));
    const whole = await put(blobs, large);
    const MiB = 1024 ** 2;
    for (const [start, end] of [
      [0, 0],
      [5, MiB - 1],
      [MiB - 1, MiB],
      [MiB, 3 * MiB + 4],
      [0, 3 * MiB + 4],
    ] as const) {
      const got: Buffer[] = [];
      for await (const piece of await blobs.open(whole, { start, end })) got.push(piece as Buffer);
      expect(Buffer.concat(got).equals(large.subarray(start, end + 1))).toBe(true);
    }
    expect(await blobs.read(await put(blobs, Buffer.alloc(0)), 10)).toEqual(Buffer.alloc(0));
  });
});

describe('a service whose blobs were changed', () => {
  const kiln = sharedKiln();
  let made: BuildView;
  beforeAll(async () => {
    // A log of some MiB, so that more than one piece of it is sent.
    const source = await dkmsSource(
      'spoilt',
      'MAKE="seq 1 600000; make -C $kernel_source_dir M=$dkms_tree/spoilt/1.0/build"',
    );
    made = await kiln.json<BuildView>('build', source, '-k', kiln.kernel);
  });
  const fetchArtifact = async (digest: string, headers = {}): Promise<Response> =>
    fetch(`${kiln.url}/v1/artifacts/${digest}`, {
      headers: { Authorization: `Bearer ${await kiln.adminToken()}`, ...headers },
    });
  /** Changes one byte of a blob while something is done. */
  const whileSpoilt = async (digest: Digest, work: () => Promise<void>): Promise<void> => {
    const place = placeIn(join(kiln.data, 'blobs'), digest);
    const bytes = await readFile(place);
    const last = (bytes.at(-1) ?? 0) ^ 1;
    await writeFile(place, Buffer.concat([bytes.subarray(0, -1), Buffer.from([last])]));
    try {
      await work();
    } finally {
      await writeFile(place, bytes);
    }
  };

  it('answers a module with a sentence, not with other bytes, a part of it likewise', async () => {
    const module = made.modules[0]?.signed ?? digestOf('');
    await whileSpoilt(module, async () => {
      for (const headers of [{}, { Range: 'bytes=0-9' }]) {
        const response = await fetchArtifact(module, headers);
        expect(response.status).toBe(500);
        expect(response.headers.get('ETag')).not.toBe(`"${module}"`);
        expect(response.headers.get('Cache-Control')).toBeNull();
        expect(await response.json()).toMatchObject({
          code: 'internal',
          detail: expect.stringMatching(/is damaged: its bytes have another digest/),
        });
      }
    });
    expect((await fetchArtifact(module)).status).toBe(200);
  });

  it('breaks a long answer off before its end', async () => {
    const log = made.log ?? digestOf('');
    await whileSpoilt(log, async () => {
      const response = await fetchArtifact(log);
      await expect(response.arrayBuffer()).rejects.toThrow();
    });
    expect((await (await fetchArtifact(log)).text()).length).toBeGreaterThan(3 * 1024 ** 2);
  });

  it('builds nothing against exports that are not what was built', async () => {
    await kiln.json('source', 'push', await dkmsSource('ground', ''));
    const ground = await kiln.json<BuildView>('build', 'ground', '-k', kiln.kernel);
    const record = new DatabaseSync(join(kiln.data, 'kiln.sqlite'), { readOnly: true });
    const row = record
      .prepare("SELECT digest FROM artifacts WHERE build = ? AND kind = 'exports'")
      .get(ground.id);
    record.close();
    const exports = String(row?.['digest']) as Digest;
    const source = await dkmsSource('wall', 'BUILD_DEPENDS[0]=ground');
    await whileSpoilt(exports, async () => {
      const { status, stderr } = await kiln.kiln('build', source, '-k', kiln.kernel, '-q');
      expect([status, stderr]).toEqual([
        1,
        expect.stringMatching(/no builder could run this build/),
      ]);
    });
    const again = await kiln.json<BuildView>('build', source, '-k', kiln.kernel);
    expect(again.state).toBe('succeeded');
  });
});
