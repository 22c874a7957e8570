import { cp, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { aptHost, type AptHost } from '../machine/apt-host.ts';
import { aptRoot } from '../machine/debian-root.ts';
import { makeArchive } from '../machine/own-archive.ts';
import { ourPackages } from '../machine/packages.ts';
import { mustRun } from '../machine/run.ts';

/** The two hosts that are compared: one with kiln-dkms, one with dkms, compiler and headers. Both have the kernel's own package. */

/** A suite of Debian's, and one of its kernels. */
export interface Place {
  readonly suite: string;
  readonly release: string;
}

/** What a host needs for modules at all, by who makes them. */
export const NEEDS = {
  kiln: () => ['kiln-dkms'],
  dkms: ({ release }: Place) => ['dkms', `linux-headers-${release}`],
};

/** A host with the kernel only, and Kiln's packages in reach of its apt. An initramfs of the small kind takes no time that matters. */
export const plainHost = async (place: Place, root: string): Promise<AptHost> => {
  const { suite, release } = place;
  const packages = ['kmod', `linux-image-${release}`, 'tiny-initramfs', 'ca-certificates'];
  await mustRun('rm', ['-rf', root]);
  await mustRun('cp', ['-a', await aptRoot(`${suite}-${release}`, suite, packages), root]);
  const archive = await makeArchive('kiln-archive');
  for (const deb of Object.values(await ourPackages())) await archive.addFile(deb);
  await archive.publish();
  const home = join(root, 'srv/kiln');
  await cp(archive.directory, home, { recursive: true });
  const key = /^Signed-By: (.*)$/m.exec(archive.sources)?.[1] ?? '';
  await cp(key, join(home, 'key.gpg'));
  await mustRun('chmod', ['-R', 'a+rX', home]);
  const sources = 'Types: deb\nURIs: file:/srv/kiln\nSuites: ./\nSigned-By: /srv/kiln/key.gpg\n';
  await writeFile(join(root, 'etc/apt/sources.list.d/kiln.sources'), sources);
  const host = aptHost(root);
  await host.mustRun('apt-get', 'update', '-q');
  return host;
};

/** Installs packages whose files are there already; how it went, and how long apt took. */
export const installTimed = async (
  host: AptHost,
  names: readonly string[],
): Promise<{ readonly status: number; readonly words: string; readonly seconds: number }> => {
  const fetched = await host.apt('install', '--download-only', ...names);
  if (fetched.status !== 0) throw new Error(`apt-get: ${fetched.stderr}`);
  const started = performance.now();
  const { status, stdout, stderr } = await host.apt('install', ...names);
  return {
    status,
    words: `${stdout}${stderr}`,
    seconds: (performance.now() - started) / 1000,
  };
};

/** Sets a host with kiln-dkms up for a service. */
export const setUpKiln = async (host: AptHost, url: string, token: string): Promise<void> => {
  await mkdir(join(host.root, 'etc/kiln'), { recursive: true });
  await writeFile(join(host.root, 'etc/kiln/token'), `${token}\n`, { mode: 0o600 });
  await host.mustRun('kiln', 'setup', url, '--token-file', '/etc/kiln/token', '--trust-first-use');
};
