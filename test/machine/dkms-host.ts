import { copyFile, cp, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { bareRoot, runInside } from './debian-root.ts';
import { freshDirectory } from './make-source.ts';
import { CHECKOUT, CLIENT } from './places.ts';
import { mustRun } from './run.ts';
import type { ScratchHost } from './scratch-host.ts';
import { addKernel } from './small-root.ts';

/**
 * A host with Kiln's dkms: a minimal Debian without compiler, make or headers, with a kernel of a handful of modules, set up for a service.
 * What the package kiln-dkms brings lies where the package puts it.
 */
export const makeDkmsHost = async (
  kiln: { readonly url: string; readonly release: string },
  token: string,
): Promise<ScratchHost> => {
  const root = join(await freshDirectory('dkms-host'), 'root');
  await mustRun('cp', ['-a', await bareRoot(), root]);
  await addKernel(root, kiln.release);
  await copyFile(CLIENT, join(root, 'usr/bin/kiln'));
  for (const part of ['client/package/root', 'client/package/dkms/root'])
    await cp(join(CHECKOUT, part), root, { recursive: true });
  await mkdir(join(root, 'etc/kiln'), { recursive: true });
  await writeFile(join(root, 'etc/kiln/token'), `${token}\n`, { mode: 0o600 });
  const run = (program: string, ...args: string[]) => runInside(root, program, args);
  const args = ['setup', kiln.url, '--token-file', '/etc/kiln/token', '--trust-first-use'];
  const { status, stderr } = await run('kiln', ...args);
  if (status !== 0) throw new Error(`kiln setup ended with ${status}: ${stderr}`);
  return { root, release: kiln.release, run };
};
