import { createWriteStream } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { pack } from 'tar-stream';
import type { Digest } from '../../services/core/digest.ts';
import { filesOf, type BuildView } from '../../services/core/protocol/build.ts';
import { syncPath } from '../transaction/whole-file.ts';
import { artifactName, BUNDLE_INDEX, type Bundle } from './bundle.ts';

/** Writes a bundle of builds to a file beside its place, and renames it into place. `artifact` gives each artifact's bytes. */
export const writeBundle = async (
  file: string,
  content: Omit<Bundle, 'format'>,
  artifact: (digest: Digest) => Promise<Buffer>,
): Promise<void> => {
  const arrival = `${file}.kiln-new`;
  // Whatever has the name is removed first: writing through a link that somebody left there would change another file.
  await rm(arrival, { force: true });
  const tar = pack();
  const written = pipeline(tar, createWriteStream(arrival, { flags: 'wx' }));
  try {
    const index: Bundle = { format: 1, ...content };
    const add = (name: string, bytes: Buffer): void =>
      void tar.entry({ name, mtime: new Date(0) }, bytes);
    add(BUNDLE_INDEX, Buffer.from(JSON.stringify(index)));
    for (const digest of artifactsOf(content.builds))
      add(artifactName(digest), await artifact(digest));
    tar.finalize();
    await written;
    await syncPath(arrival);
    await rename(arrival, file);
  } catch (error) {
    tar.destroy();
    await written.catch(() => {});
    await rm(arrival, { force: true });
    throw error;
  }
};

const artifactsOf = (builds: readonly BuildView[]): ReadonlySet<Digest> =>
  new Set(
    builds.flatMap((build) => [
      ...build.modules.map(({ signed, unsigned }) => signed ?? unsigned),
      ...(build.attestation === null ? [] : [build.attestation, ...Object.values(filesOf(build))]),
    ]),
  );
