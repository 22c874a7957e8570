import { mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { RepositoriesView } from '../../services/core/protocol/repository.ts';
import { aptHost, wouldFetch, type AptHost } from '../machine/apt-host.ts';
import { debianPackage, headerPackages, releasesOf } from '../machine/debian.ts';
import { copyAptRoot } from '../machine/debian-root.ts';
import { fewKernelPackage } from '../machine/few-kernel.ts';
import { serveFiles } from '../machine/file-server.ts';
import { pinToolchain, startKiln } from '../machine/kiln-service.ts';
import { makeArchive } from '../machine/own-archive.ts';
import { WORK } from '../machine/places.ts';
import { relayTo } from '../machine/relay.ts';
import { until } from '../machine/until.ts';

/**
 * A farm: one service, ten hosts that have nothing of Kiln's but its repository, and the modules of five sources. How long a new kernel's
 * modules take from Debian's archive to the repository, what travels to each host by apt, and what would travel with DKMS. Hosts are roots,
 * with a kernel of a handful of its modules.
 *
 * usage   npm run bench:farm
 */

const HOSTS = 10;
const SOURCES = ['v4l2loopback', 'acpi-call', 'dm-writeboost', 'bbswitch', 'vpoll'];
const HEADERS = String.raw`linux-headers-(?<release>6\.1\.0-\d+-(?<flavour>amd64))`;

const say = (text: string): void => void process.stderr.write(`${text}\n`);
const time = async (act: () => Promise<unknown>): Promise<number> => {
  const started = performance.now();
  await act();
  return (performance.now() - started) / 1000;
};

const [newer = '', older = ''] = await releasesOf('amd64');
const data = join(WORK, 'bench/farm');
await rm(data, { recursive: true, force: true });
await mkdir(data, { recursive: true });

const archive = await makeArchive('farm');
/** Brings a kernel into the archive that hosts and service follow. */
const bring = async (release: string, version: string): Promise<void> => {
  for (const name of await headerPackages(release))
    await archive.addFile(await debianPackage(name));
  await archive.addFile(await fewKernelPackage(release));
  await archive.remove('linux-image-amd64');
  const depends = `linux-image-${release}`;
  await archive.add({ name: 'linux-image-amd64', version, depends }, {});
  await archive.publish();
};
await bring(older, '9:6.1.1-1');
const kernels = await serveFiles(archive.directory);

const kiln = await startKiln(join(data, 'kiln'), { KILN_CONCURRENCY: '2', KILN_LOG_LEVEL: 'warn' });
let travelled = 0;
const relay = await relayTo(kiln.url, (_, bytes) => {
  travelled += bytes.length;
});

/** Waits until the repository has all sources' modules for a kernel, and what follows the flavour needs them. */
const isPublished = (release: string): Promise<void> =>
  until(`all modules for ${release} are in the repository`, async () => {
    const { repositories } = await kiln.json<RepositoriesView>('repo', 'list');
    const found = repositories.find(({ channel, isCurrent }) => channel === 'stable' && isCurrent);
    const there = found?.packages ?? [];
    return SOURCES.every((source) => {
      const modules = there.find(({ name }) => name === `${source}-modules-${release}`);
      const follows = (name: string, version: string): boolean =>
        name === `${source}-modules-amd64` && version === modules?.version;
      return there.some(({ name, version }) => follows(name, version));
    });
  });

const mustApt = async (host: AptHost, ...args: string[]): Promise<void> => {
  const { status, stdout, stderr } = await host.apt(...args);
  if (status !== 0) throw new Error(`apt-get ${args.join(' ')}: ${stdout}${stderr}`);
};

try {
  await pinToolchain(kiln);
  const sources = join(data, 'farm.sources');
  await writeFile(sources, archive.sources);
  await kiln.json('archive', 'add', 'farm', '--sources', sources, '--headers', HEADERS);
  for (const source of SOURCES) {
    await kiln.json('source', 'push', await debianPackage(`${source}-dkms`));
    await kiln.json('repo', 'publish', source, '--to', 'stable');
  }
  say(`building ${SOURCES.length} sources for ${older}`);
  await kiln.json('kernel', 'sync', '--wait');
  await isPublished(older);

  say(`making ${HOSTS} hosts`);
  const key = await readFile(/^Signed-By: (.*)$/m.exec(archive.sources)?.[1] ?? '');
  const { stdout } = await kiln.kiln('repo', 'sources', 'farm');
  const hosts: AptHost[] = [];
  for (let index = 0; index < HOSTS; index += 1) {
    const host = aptHost(
      await copyAptRoot('modules', 'bookworm', ['kmod', 'initramfs-tools', 'debsums']),
    );
    const lists = join(host.root, 'etc/apt/sources.list.d');
    await writeFile(join(host.root, 'etc/apt/keyrings/farm.gpg'), key);
    await writeFile(
      join(lists, 'kernels.sources'),
      `Types: deb\nURIs: ${kernels.url}\nSuites: ./\nSigned-By: /etc/apt/keyrings/farm.gpg\n`,
    );
    await writeFile(join(lists, 'kiln.sources'), stdout.replaceAll(kiln.url, relay.url));
    hosts.push(host);
  }
  const [first] = hosts;
  if (first === undefined) throw new Error('no host');

  say('installing on each');
  const packages = ['linux-image-amd64', ...SOURCES.map((source) => `${source}-modules-amd64`)];
  const installs: number[] = [];
  for (const host of hosts)
    installs.push(
      await time(async () => {
        await mustApt(host, 'update');
        await mustApt(host, 'install', ...packages);
      }),
    );
  const installed = travelled;

  say(`a new kernel, ${newer}`);
  await bring(newer, '9:6.1.2-1');
  const fresh = await time(async () => {
    await kiln.json('kernel', 'sync', '--wait');
    await isPublished(newer);
  });
  travelled = 0;
  const upgrades: number[] = [];
  for (const host of hosts)
    upgrades.push(
      await time(async () => {
        await mustApt(host, 'update');
        await mustApt(host, 'dist-upgrade');
      }),
    );
  for (const host of hosts)
    for (const release of [older, newer]) {
      const index = await readFile(join(host.root, 'lib/modules', release, 'modules.dep'), 'utf8');
      const lacks = SOURCES.filter((source) => !index.includes(`updates/${source}`));
      if (lacks.length > 0) throw new Error(`${release} lacks ${lacks.join(', ')}`);
    }

  const dkms = await wouldFetch(first, [
    ...SOURCES.map((source) => `${source}-dkms`),
    `linux-headers-${older}`,
  ]);
  let headers = 0;
  for (const name of await headerPackages(newer))
    headers += (await stat(await debianPackage(name))).size;
  const mb = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;
  const mean = (numbers: readonly number[]): string =>
    `${(numbers.reduce((sum, each) => sum + each, 0) / numbers.length).toFixed(1)} s`;
  process.stdout.write(`| ${HOSTS} hosts, ${SOURCES.length} sources | Kiln’s repository | DKMS |
|---|---|---|
| from the new kernel in the archive to all its modules in the repository | ${fresh.toFixed(0)} s | each host builds |
| to each host at first | ${mb(installed / HOSTS)} | ${mb(dkms.bytes)}, ${dkms.packages} packages |
| to each host for the next kernel | ${mb(travelled / HOSTS)} | ${mb(headers)} of headers |
| \`apt-get update\` and \`install\`, with the kernel and an initramfs | ${mean(installs)} | |
| \`apt-get update\` and \`dist-upgrade\` to the next kernel | ${mean(upgrades)} | |
`);
} finally {
  await kiln.stop();
  await relay.close();
  await kernels.close();
}
