import { readFile, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { changeHost, recoverAloud } from '../install/change-host.ts';
import { withLock } from '../host/lock.ts';
import type { Change } from '../transaction/change.ts';
import type { HostConf } from './conf.ts';
import { locateOn } from './place.ts';
import type { DkmsRun } from './run.ts';
import { activeLink, builtHome, moduleIn, originalsHome, type Target } from './tree.ts';

/**
 * Takes off a kernel what dkms itself had installed before Kiln came: modules that still are what is in the tree go, and what was aside
 * comes back. Gives the lines that dkms would say.
 */
export const removeForeign = async (
  run: DkmsRun,
  target: Target,
  conf: HostConf,
): Promise<readonly string[]> => {
  const { context, host, places } = run.session;
  const locate = await locateOn(host);
  const changes: Change[] = [{ path: activeLink(places, target).slice(1), to: null }];
  const lines: string[] = [];
  for (const module of conf.modules) {
    const built = await moduleIn(join(builtHome(places, target), 'module'), module.name);
    const place = await moduleIn(join(places.kernels, target.release, locate(module)), module.name);
    const isOurs =
      built !== null && place !== null && (await readFile(built)).equals(await readFile(place));
    if (!isOurs) {
      lines.push(
        `Module ${module.name}.ko was not found within ${places.kernels}/${target.release}/`,
      );
      continue;
    }
    changes.push({ path: (await realpath(place)).slice(1).replace(/^usr\//, ''), to: null });
    lines.push(`Deleting ${place}`);
    const home = originalsHome(places, target);
    const kept = await moduleIn(home, module.name);
    const origin =
      kept === null ? null : await readFile(`${kept}.origin`, 'utf8').catch(() => null);
    const [, below] =
      new RegExp(`^${places.kernels}/[^/]+/(.+)`).exec(origin?.split('\n')[0] ?? '') ?? [];
    if (kept === null || below === undefined || below.split('/').includes('..')) continue;
    changes.push(
      { path: `lib/modules/${target.release}/${below}`, to: await readFile(kept) },
      { path: kept.slice(1), to: null },
      { path: `${kept.slice(1)}.origin`, to: null },
    );
  }
  await withLock(host, async () => {
    await recoverAloud(context, host);
    await changeHost(context, host, {
      title: `uninstall ${target.module}/${target.version} from ${target.release}`,
      changes,
      laid: [],
      taken: [],
      initramfs: context.config.initramfs,
    });
  });
  return lines;
};
