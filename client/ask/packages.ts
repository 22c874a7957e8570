import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { KilnError } from '../../services/core/errors.ts';
import type { CreatePackages, PackageView } from '../../services/core/protocol/package.ts';
import { writeWhole } from '../transaction/whole-file.ts';
import type { AskDeps } from './ask-deps.ts';

/** Milliseconds between two looks at what is being packed. */
const PAUSE = 300;

type Asking = Pick<AskDeps, 'service' | 'progress' | 'signal'>;

/** The packages of a build's signed modules, with those that they need; made where they are not there yet. Throws `build-failed`. */
export const makePackages = async (
  asking: Asking,
  build: string,
  wanted: CreatePackages,
): Promise<readonly PackageView[]> => {
  const made: PackageView[] = [];
  for (const each of await asking.service.createPackages(build, wanted))
    made.push(await waitFor(asking, each));
  return made;
};

/** Writes packages that are made into a directory; their files. */
export const savePackages = async (
  { service, progress }: Asking,
  packages: readonly PackageView[],
  directory: string,
): Promise<readonly string[]> => {
  await mkdir(directory, { recursive: true });
  const files: string[] = [];
  for (const { id, file, digest } of packages) {
    progress.step(`fetching ${file}`);
    if (digest === null) throw new KilnError('internal', `package ${id} is made, and has no file`);
    files.push(join(directory, file));
    await writeWhole(join(directory, file), await service.packageFile(id, digest));
  }
  return files;
};

const waitFor = async (
  { service, progress, signal }: Asking,
  asked: PackageView,
): Promise<PackageView> => {
  let view = asked;
  while (view.state === 'queued' || view.state === 'packing') {
    progress.step(`packing ${view.file}`);
    await sleep(PAUSE, undefined, { signal });
    view = await service.package(view.id);
  }
  if (view.state === 'made') return view;
  throw new KilnError(
    'build-failed',
    `the package could not be made: ${view.problem ?? 'the service does not say why'}`,
  );
};
