import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ConfModule } from './conf.ts';
import { isThere } from './look.ts';
import { locateOn } from './place.ts';
import type { DkmsRun } from './run.ts';
import {
  builtHome,
  confOf,
  isActive,
  labelOf,
  moduleIn,
  originalsHome,
  statusRows,
  type Asked,
  type Target,
} from './tree.ts';
import { tellEnd } from './session.ts';
import { DkmsEnd } from './end.ts';

/** `dkms status`: a line for each version, or for each kernel that it is built for. */
export const showStatus = async (run: DkmsRun): Promise<void> => {
  const { session } = run;
  const { module, version, kernels, arches } = session.call;
  const asked: readonly Asked[] =
    kernels.length === 0
      ? [{ module, version, release: '', arch: arches[0] ?? '' }]
      : kernels.map((release, index) => ({
          module,
          version,
          release,
          arch: arches[index] ?? arches[0] ?? '',
        }));
  for (const each of asked)
    for (const row of await statusRows(session.places, each)) {
      if (row.state === 'added') session.say(`${labelOf(row)}: added`);
      else if (row.state === 'broken') {
        session.say(`${labelOf(row)}: broken`);
        tellEnd(
          session,
          new DkmsEnd(0, [
            `${labelOf(row)}: Missing the module source directory or the symbolic link pointing to it.`,
            'Manual intervention is required!',
          ]),
        );
      } else
        session.say(
          `${labelOf(row)}, ${row.release}, ${row.arch}: ${row.state}${await remarks(run, row)}`,
        );
    }
};

/** What dkms remarks of a built module. */
const remarks = async (run: DkmsRun, target: Target): Promise<string> => {
  const { places, host } = run.session;
  const conf = await run.confs.read({ ...target, file: confOf(places, target) }).catch(() => null);
  const hasOriginals = await isThere(originalsHome(places, target));
  const first = hasOriginals ? ' (Original modules exist)' : '';
  const locate = await locateOn(host);
  for (const module of conf?.modules ?? []) {
    const built = await moduleIn(join(builtHome(places, target), 'module'), module.name);
    if (built === null) return `${first} (Built modules are missing in the kernel modules folder)`;
    if ((await isActive(places, target)) && !(await isSame(run, target, module, built, locate)))
      return `${first} (Differences between built and installed modules)`;
  }
  return first;
};

const isSame = async (
  { session: { places } }: DkmsRun,
  target: Target,
  module: ConfModule,
  built: string,
  locate: (module: ConfModule) => string,
): Promise<boolean> => {
  const place = await moduleIn(join(places.kernels, target.release, locate(module)), module.name);
  return place !== null && (await readFile(built)).equals(await readFile(place));
};
