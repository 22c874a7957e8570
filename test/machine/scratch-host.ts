import { copyFile, mkdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { bareRoot, runInside } from './debian-root.ts';
import { debianKernel } from './debian.ts';
import { CLIENT, WORK } from './places.ts';
import { mustRun, type Ran } from './run.ts';

/** A host to install to: a minimal Debian root with a kernel, and without compiler, make, headers or Node. */
export interface ScratchHost {
  readonly root: string;
  readonly release: string;
  /** Runs a program inside, as root of that host. */
  run(program: string, ...args: string[]): Promise<Ran>;
}

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

/** Makes the host below `.kiln/NAME`, or takes the one that is there. It has `kiln` and the token. */
export const makeScratchHost = async (
  name: string,
  release: string,
  token: string,
): Promise<ScratchHost> => {
  const root = join(WORK, name);
  if (!(await exists(join(root, 'lib/modules', release)))) {
    const arrival = `${root}.arriving`;
    await rm(arrival, { recursive: true, force: true });
    await rm(root, { recursive: true, force: true });
    await mkdir(dirname(arrival), { recursive: true });
    await mustRun('cp', ['-a', await bareRoot(), arrival]);
    const kernel = await debianKernel(release);
    await mkdir(join(arrival, 'lib/modules'), { recursive: true });
    await mustRun('cp', [
      '-a',
      join(kernel, 'lib/modules', release),
      join(arrival, 'lib/modules/'),
    ]);
    await mustRun('chroot', [arrival, 'depmod', release]);
    await rename(arrival, root);
  }
  // An earlier Kiln's certificate may be pinned there.
  await rm(join(root, 'etc/kiln'), { recursive: true, force: true });
  await mkdir(join(root, 'etc/kiln'), { recursive: true });
  await writeFile(join(root, 'etc/kiln/token'), `${token}\n`, { mode: 0o600 });
  await copyFile(CLIENT, join(root, 'usr/local/bin/kiln'));
  return { root, release, run: (program, ...args) => runInside(root, program, args) };
};
