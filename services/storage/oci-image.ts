import { pack, type Pack } from 'tar-stream';
import { digestOf, hexOf, type Digest } from '../core/digest.ts';

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

/** Writes the image. `time` is that of all in it, in seconds since 1970. */
export const ociImage = async (
  files: readonly ImageFile[],
  { architecture, tag, title, version }: ImageWords,
  time: number,
): Promise<Buffer> => {
  const created = new Date(time * 1000).toISOString().replace('.000Z', 'Z');
  const layer = await layerOf(files, time);
  const words = {
    'org.opencontainers.image.created': created,
    'org.opencontainers.image.title': title,
    'org.opencontainers.image.version': version,
  };
  const config = json({
    architecture,
    config: { Labels: words },
    created,
    history: [{ created, created_by: 'kiln' }],
    os: 'linux',
    rootfs: { diff_ids: [digestOf(layer)], type: 'layers' },
  });
  const manifest = json({
    annotations: words,
    config: described(`${MEDIA}.config.v1+json`, config),
    layers: [described(`${MEDIA}.layer.v1.tar`, layer)],
    mediaType: `${MEDIA}.manifest.v1+json`,
    schemaVersion: 2,
  });
  const index = json({
    manifests: [
      {
        ...described(`${MEDIA}.manifest.v1+json`, manifest),
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
  const blobs = [config, layer, manifest].map((bytes) => [hexOf(digestOf(bytes)), bytes] as const);
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

const entriesIn =
  (tar: Pack, time: number) =>
  (
    header: Partial<Parameters<Pack['entry']>[0]> & { readonly name: string },
    bytes?: Buffer,
  ): Promise<void> =>
    new Promise((resolve, reject) => {
      const done = (error?: Error | null): void => (error == null ? resolve() : reject(error));
      const whole = { uid: 0, gid: 0, mtime: new Date(time * 1000), ...header };
      if (bytes === undefined) tar.entry(whole, done);
      else tar.entry({ ...whole, size: bytes.length }, bytes, done);
    });

const gathered = async (tar: Pack): Promise<Buffer> => {
  const pieces: Buffer[] = [];
  for await (const piece of tar) pieces.push(piece as Buffer);
  return Buffer.concat(pieces);
};

const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));

const described = (
  mediaType: string,
  bytes: Buffer,
): { readonly mediaType: string; readonly digest: Digest; readonly size: number } => ({
  mediaType,
  digest: digestOf(bytes),
  size: bytes.length,
});
