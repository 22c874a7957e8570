import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { finished } from 'node:stream/promises';
import { setImmediate as turn } from 'node:timers/promises';
import { pack, type Pack } from 'tar-stream';
import { hexOf, toDigest, type Digest } from '../core/digest.ts';

/**
 * An image for containers in one file: an OCI image layout as a tar, of one layer that is not compressed, always the same bytes for the same
 * files (source: OCI image specification 1.0).
 */

/** What of it is at a path: a file, or a symbolic link. Both belong to root; so do the directories above. */
export type ImageFile =
  | { readonly path: string; readonly bytes: Buffer; readonly mode: number }
  | { readonly path: string; readonly link: string };

/** What it says of itself. */
export interface ImageWords {
  readonly architecture: string;
  /** The tag under which it is in its index. */
  readonly tag: string;
  readonly title: string;
  readonly version: string;
}

const MEDIA = 'application/vnd.oci.image';
/** Bytes that are taken at once. */
const PIECE = 1024 ** 2;

/** Writes the image. `time` is that of all in it, in seconds since 1970. */
export const ociImage = async (
  files: readonly ImageFile[],
  { architecture, tag, title, version }: ImageWords,
  time: number,
): Promise<Buffer> => {
  const created = new Date(time * 1000).toISOString().replace('.000Z', 'Z');
  const layer = await described(`${MEDIA}.layer.v1.tar`, await layerOf(files, time));
  const words = {
    'org.opencontainers.image.created': created,
    'org.opencontainers.image.title': title,
    'org.opencontainers.image.version': version,
  };
  const config = await described(
    `${MEDIA}.config.v1+json`,
    json({
      architecture,
      config: { Labels: words },
      created,
      history: [{ created, created_by: 'kiln' }],
      os: 'linux',
      rootfs: { diff_ids: [layer.descriptor.digest], type: 'layers' },
    }),
  );
  const manifest = await described(
    `${MEDIA}.manifest.v1+json`,
    json({
      annotations: words,
      config: config.descriptor,
      layers: [layer.descriptor],
      mediaType: `${MEDIA}.manifest.v1+json`,
      schemaVersion: 2,
    }),
  );
  const index = json({
    manifests: [
      {
        ...manifest.descriptor,
        annotations: { 'org.opencontainers.image.ref.name': tag },
        platform: { architecture, os: 'linux' },
      },
    ],
    mediaType: `${MEDIA}.index.v1+json`,
    schemaVersion: 2,
  });
  const tar = pack();
  const whole = gathered(tar);
  const put = entriesIn(tar, time);
  for (const directory of ['blobs', 'blobs/sha256'])
    await put({ name: `${directory}/`, type: 'directory', mode: 0o755 });
  const blobs = [config, layer, manifest].map(
    ({ bytes, descriptor }) => [hexOf(descriptor.digest), bytes] as const,
  );
  for (const [hex, bytes] of blobs.toSorted(([one], [other]) => (one < other ? -1 : 1)))
    await put({ name: `blobs/sha256/${hex}`, mode: 0o644 }, bytes);
  await put({ name: 'index.json', mode: 0o644 }, index);
  await put({ name: 'oci-layout', mode: 0o644 }, json({ imageLayoutVersion: '1.0.0' }));
  tar.finalize();
  return whole;
};

/** The layer: a tar of the files and the directories above them, in the order of their paths. */
const layerOf = async (files: readonly ImageFile[], time: number): Promise<Buffer> => {
  const tar = pack();
  const whole = gathered(tar);
  const put = entriesIn(tar, time);
  const byPath = new Map<string, ImageFile | null>();
  for (const file of files) {
    const parts = file.path.slice(1).split('/');
    for (let count = 1; count < parts.length; count += 1)
      byPath.set(parts.slice(0, count).join('/'), null);
    byPath.set(parts.join('/'), file);
  }
  for (const name of [...byPath.keys()].sort()) {
    const file = byPath.get(name) ?? null;
    if (file === null) await put({ name: `${name}/`, type: 'directory', mode: 0o755 });
    else if ('link' in file) await put({ name, type: 'symlink', linkname: file.link, mode: 0o777 });
    else await put({ name, mode: file.mode }, file.bytes);
  }
  tar.finalize();
  return whole;
};

/** Adds entries to a tar, and lets others have their turn meanwhile: an image may have hundreds of megabytes. */
const entriesIn =
  (tar: Pack, time: number) =>
  async (
    header: Partial<Parameters<Pack['entry']>[0]> & { readonly name: string },
    bytes: Buffer = Buffer.alloc(0),
  ): Promise<void> => {
    const entry = tar.entry({
      uid: 0,
      gid: 0,
      mtime: new Date(time * 1000),
      size: bytes.length,
      ...header,
    });
    for (let at = 0; at < bytes.length; at += PIECE) {
      if (!entry.write(bytes.subarray(at, at + PIECE))) await once(entry, 'drain');
      await turn();
    }
    entry.end(Buffer.alloc(0));
    await finished(entry);
  };

const gathered = async (tar: Pack): Promise<Buffer> => {
  const pieces: Buffer[] = [];
  for await (const piece of tar) pieces.push(piece as Buffer);
  return Buffer.concat(pieces);
};

const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));

/** Some bytes, and what names them in an image. */
interface Described {
  readonly bytes: Buffer;
  readonly descriptor: {
    readonly mediaType: string;
    readonly digest: Digest;
    readonly size: number;
  };
}

const described = async (mediaType: string, bytes: Buffer): Promise<Described> => {
  const hash = createHash('sha256');
  for (let at = 0; at < bytes.length; at += PIECE) {
    hash.update(bytes.subarray(at, at + PIECE));
    await turn();
  }
  const digest = toDigest(hash.digest('hex'));
  return { bytes, descriptor: { mediaType, digest, size: bytes.length } };
};
