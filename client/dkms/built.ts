import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Digest } from '../../services/core/digest.ts';
import { KilnError } from '../../services/core/errors.ts';
import { compressModule, inTree, type Suffix } from '../host/kernel-modules.ts';
import { forEverybody } from '../host/umask.ts';
import type { Fetched } from '../install/fetch.ts';
import { writeBundle } from '../install/write-bundle.ts';
import { syncPath, writeSynced } from '../transaction/whole-file.ts';
import type { DkmsRun } from './run.ts';
import { builtHome, type Target } from './tree.ts';
import { layWhole } from './whole.ts';

/** The file of a build in dkms's tree that Kiln installs from: the modules with all that proves where they come from. */
export const BUNDLE_FILE = 'kiln.bundle';

/** Lays what was built into dkms's tree, whole: modules as they will be installed, the log, and the bundle that proves them. */
export const layIntoTree = async (
  run: DkmsRun,
  target: Target,
  fetched: readonly Fetched[],
  log: string,
): Promise<void> => {
  const { session } = run;
  const last = fetched.at(-1);
  if (last === undefined) return;
  const suffix = await suffixFor(run, target);
  await forEverybody(() =>
    layWhole(builtHome(session.places, target), async (arrival) => {
      await mkdir(join(arrival, 'module'));
      await mkdir(join(arrival, 'log'));
      for (const { name, bytes } of last.modules) {
        const file = await compressModule(bytes, suffix);
        const path = join(arrival, 'module', `${name}.ko${file === null ? '' : suffix}`);
        await writeSynced(path, file ?? bytes);
      }
      await writeSynced(join(arrival, 'log', 'make.log'), Buffer.from(log));
      await writeBundle(join(arrival, BUNDLE_FILE), contentOf(run, fetched), artifactsIn(fetched));
      for (const path of [arrival, join(arrival, 'module'), join(arrival, 'log')])
        await syncPath(path);
    }),
  );
};

const contentOf = ({ session }: DkmsRun, fetched: readonly Fetched[]) => ({
  server: session.context.config.server,
  builds: fetched.map(({ build }) => build),
  withdrawals: [],
});

/** The artifacts of fetched builds, by their digest. */
const artifactsIn = (fetched: readonly Fetched[]): ((digest: Digest) => Promise<Buffer>) => {
  const known = new Map<Digest, Buffer>();
  for (const { build, modules, provenance } of fetched) {
    if (build.attestation !== null && provenance !== null)
      known.set(build.attestation, Buffer.from(provenance));
    for (const { name, bytes } of modules) {
      const view = build.modules.find((each) => each.name === name);
      if (view !== undefined) known.set(view.signed ?? view.unsigned, bytes);
    }
  }
  return async (digest) => {
    const bytes = known.get(digest);
    if (bytes !== undefined) return bytes;
    throw new KilnError('unverified', `${digest} was not fetched; build once more`);
  };
};

/** How the kernel's own modules are compressed. A kernel that is not here yet gets plain ones. */
const suffixFor = async ({ session: { host } }: DkmsRun, { release }: Target): Promise<Suffix> =>
  (await inTree(host, release).catch(() => null))?.suffix ?? '';
