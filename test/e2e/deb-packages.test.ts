import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { digestOf } from '../../services/core/digest.ts';
import type { BuildView } from '../../services/core/protocol/build.ts';
import type { IssuedToken } from '../../services/core/protocol/token.ts';
import type { PackageView } from '../../services/core/protocol/package.ts';
import { releasesOf } from '../machine/debian.ts';
import { fewHeaders } from '../machine/few-headers.ts';
import { pinToolchain, startKiln, type KilnService } from '../machine/kiln-service.ts';
import { freshDirectory, kbuildSource } from '../machine/make-source.ts';
import { KILND, NODE } from '../machine/places.ts';
import { mustRun, run, type Ran } from '../machine/run.ts';

/** Debian packages of what was signed, made in the queue. */

let kiln: KilnService;
let release: string;
let source: string;
let out: string;

beforeAll(async () => {
  [release = ''] = await releasesOf('amd64');
  kiln = await startKiln(await freshDirectory('deb-packages'), { KILN_LOG_LEVEL: 'warn' });
  await pinToolchain(kiln);
  await kiln.json('kernel', 'push', await fewHeaders(release));
  source = await kbuildSource('camera');
  await mkdir(join(source, 'firmware'));
  await writeFile(join(source, 'firmware/boot.bin'), Buffer.from([0, 255, 1]));
  await writeFile(join(source, 'camera.conf'), 'options camera a=1\n');
  await push('Web_Cam', '1.0-2');
  out = await freshDirectory('out');
});
afterAll(() => kiln.stop());

const push = (name: string, version: string): Promise<unknown> =>
  kiln.json(
    'source',
    'push',
    source,
    `--name=${name}`,
    `--version=${version}`,
    '--file=/lib/firmware/camera/boot.bin=firmware/boot.bin',
    '--file=/lib/modprobe.d/camera.conf=camera.conf',
  );
const pack = (...args: string[]): Promise<readonly PackageView[]> =>
  kiln.json<readonly PackageView[]>('package', 'Web_Cam', '-k', release, ...args);
const field = (file: string, name: string): Promise<string> =>
  mustRun('dpkg-deb', ['-f', file, name]).then((text) => text.trim());

describe('a build’s packages', () => {
  it('are compiled and packed once, and brought with what they need', async () => {
    const made = await pack('-o', out);
    const names = made.map(({ name }) => name);
    expect(names).toEqual([
      `web-cam-modules-${release}`,
      'web-cam-modules-settings',
      'kiln-modules-common',
    ]);
    expect((await readdir(out)).sort()).toEqual(made.map(({ file }) => file).sort());
    expect(await pack()).toEqual(made);
    for (const { file, digest, size } of made) {
      const bytes = await readFile(join(out, file));
      expect([digestOf(bytes), bytes.length]).toEqual([digest, size]);
    }
  });

  it('hold what was signed, at its place, tracked by dpkg', async () => {
    const [build] = await kiln.json<readonly BuildView[]>('list');
    const [modules = ''] = (await readdir(out)).filter((name) => name.includes(release));
    const root = await freshDirectory('unpacked');
    await mustRun('dpkg-deb', ['-x', join(out, modules), root]);
    const module = await readFile(join(root, `lib/modules/${release}/updates/Web_Cam/camera.ko`));
    expect(digestOf(module)).toBe(build?.modules[0]?.signed);
    const firmware = join(root, `lib/firmware/updates/${release}/camera/boot.bin`);
    expect(await readFile(firmware)).toEqual(Buffer.from([0, 255, 1]));
    const doc = join(root, 'usr/share/doc', `web-cam-modules-${release}`);
    expect(digestOf(await readFile(join(doc, 'provenance.json')))).toBe(build?.attestation);
    const control = await freshDirectory('control');
    await mustRun('dpkg-deb', ['-e', join(out, modules), control]);
    expect((await readdir(control)).sort()).toEqual(['control', 'md5sums']);
    await mustRun('bash', ['-c', `cd ${root} && md5sum --quiet -c ${control}/md5sums`]);
    const file = join(out, modules);
    expect(await field(file, 'Version')).toMatch(/^1\.0-2\+6\.[0-9.]+\+1$/);
    expect(await field(file, 'Depends')).toBe(
      `kiln-modules-common, linux-image-${release} | linux-image-${release}-unsigned | linux-image-unsigned-${release}, web-cam-modules-settings`,
    );
    expect(await field(file, 'Provides')).toBe('web-cam-modules');
    expect((await kiln.kiln('show', build?.id ?? '')).stdout).toContain(modules);
  });

  it('are fine with lintian', async () => {
    for (const file of await readdir(out)) {
      const { stdout } = await run('lintian', ['--fail-on', 'none', join(out, file)]);
      expect(stdout.split('\n').filter((line) => line.startsWith('E:'))).toEqual([]);
    }
  });

  it('have the same bytes when they are made in another place', async () => {
    const other = await startKiln(await freshDirectory('elsewhere'), { KILN_LOG_LEVEL: 'warn' });
    try {
      // Its key is another, so that only what was not signed can be the same.
      const common = (await readdir(out)).filter((name) => !name.includes(release));
      await pinToolchain(other);
      await other.json('kernel', 'push', await fewHeaders(release));
      const files = ['--file=/lib/modprobe.d/camera.conf=camera.conf'];
      files.push('--file=/lib/firmware/camera/boot.bin=firmware/boot.bin');
      await other.json('source', 'push', source, '--name=Web_Cam', '--version=1.0-2', ...files);
      const there = await freshDirectory('there');
      await other.json('package', 'Web_Cam', '-k', release, '-o', there);
      for (const name of common)
        expect(await readFile(join(there, name))).toEqual(await readFile(join(out, name)));
    } finally {
      await other.stop();
    }
  });

  it('are read by who may read what is in them, whatever their own source is called', async () => {
    const { secret } = await kiln.json<IssuedToken>('token', 'create', 'host', '--role', 'client');
    const token = join(await freshDirectory('token'), 'token');
    await writeFile(token, secret, { mode: 0o600 });
    const asHost = (...args: string[]): Promise<Ran> => kiln.kiln(...args, '--token-file', token);
    const [modules, settings, common] = await pack();
    const read = async (of: PackageView | undefined): Promise<number> =>
      (
        await fetch(`${kiln.url}/v1/packages/${of?.id}`, {
          headers: { authorization: `Bearer ${secret}` },
        })
      ).status;
    const mine = await kbuildSource('mine');
    expect((await asHost('build', mine, '--name', 'Web_Cam', '-k', release)).status).toBe(0);
    expect([await read(modules), await read(settings), await read(common)]).toEqual([
      404, 404, 200,
    ]);
    const there = await freshDirectory('fetched');
    expect((await asHost('package', 'Web_Cam', '-k', release, '-o', there)).status).toBe(0);
    expect((await readdir(there)).sort()).toEqual((await readdir(out)).sort());
    expect([await read(modules), await read(settings)]).toEqual([200, 200]);
  });

  it('are refused where another source has the name, and where nothing was signed', async () => {
    await push('web-cam', '1.0');
    const { status, stderr } = await kiln.kiln('package', 'web-cam', '-k', release);
    expect([status, stderr]).toEqual([2, expect.stringMatching(/is that of the source Web_Cam; /)]);
    expect(await kiln.kiln('package', 'Web_Cam', '-k', release, '--format', 'zip')).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/--format takes deb/),
    });
  });

  it('go when they were packed long ago, and have the same bytes when they are asked for again', async () => {
    const before = await pack();
    await kiln.stop();
    const gc = [NODE, KILND, 'gc', '--data', kiln.data];
    const gone = await mustRun('faketime', ['-f', '+100d', ...gc]);
    expect(gone).toMatch(/^2 packages, 0 bytes: the file of a package that is in no repository/m);
    kiln = await startKiln(kiln.data, { KILN_LOG_LEVEL: 'warn' });
    const again = await pack();
    const told = ({ id, version, digest }: PackageView): readonly (string | null)[] => [
      id,
      version,
      digest,
    ];
    expect(again.map(told)).toEqual(before.map(told));
    const finished = (views: readonly PackageView[]): number => views[0]?.finishedAt ?? 0;
    expect(finished(again)).toBeGreaterThan(finished(before));
  });
});
