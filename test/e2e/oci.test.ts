import { copyFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { digestOf } from '../../services/core/digest.ts';
import type { BuildView } from '../../services/core/protocol/build.ts';
import type { PackageView } from '../../services/core/protocol/package.ts';
import { freshDirectory, kbuildSource, moduleCode } from '../machine/make-source.ts';
import { CLIENT } from '../machine/places.ts';
import { startRegistry, type Registry } from '../machine/registry.ts';
import { mustRun, run } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';
import { videoHost } from '../machine/video-host.ts';

/**
 * Images of modules for containers, as Kubernetes' Kernel Module Management (KMM) uses them: it runs a shell of the image that copies the
 * modules out, and modprobe with that directory where the node's own modules are mounted.
 */

const kiln = sharedKiln();
const FILE = `v4l2loopback-modules-${kiln.release}.oci.tar`;
const HOME = `opt/lib/modules/${kiln.release}`;
const MC = 'kernel/drivers/media/mc/mc.ko';
const VIDEODEV = 'kernel/drivers/media/v4l2-core/videodev.ko';
const EXPORTING = moduleCode(
  'int ground(void);\nint ground(void) { return 1; }\nEXPORT_SYMBOL(ground);',
);
const PLAIN = ['--src-tls-verify=false', '--dest-tls-verify=false'];
let registry: Registry;
let node: string;
let out: string;
let made: readonly PackageView[];
let pushed: string;

beforeAll(async () => {
  registry = await startRegistry();
  out = await freshDirectory('out');
  node = await videoHost(kiln.release);
  await mustRun('depmod', ['-b', node, kiln.release]);
  made = await kiln.json<readonly PackageView[]>(
    'package',
    'v4l2loopback',
    '-k',
    kiln.release,
    '--format=oci',
    '--root',
    node,
    '-o',
    out,
  );
  pushed = `docker://${registry.address}/v4l2loopback:${kiln.release}`;
});
afterAll(async () => {
  await registry.stop();
});

/** The build whose modules are in the image. */
const signed = async (): Promise<BuildView> => {
  const found = (await kiln.json<readonly BuildView[]>('list')).find(
    ({ source, state, kernel }) =>
      source.name === 'v4l2loopback' && state === 'succeeded' && kernel.release === kiln.release,
  );
  if (found === undefined) throw new Error('there is no build of it');
  return found;
};

/** Builds an image of a Dockerfile and a context that has a static busybox; its id. */
const dockerBuild = async (lines: readonly string[]): Promise<string> => {
  const context = await freshDirectory('context');
  await copyFile('/bin/busybox', join(context, 'busybox'));
  await writeFile(join(context, 'Dockerfile'), `${lines.join('\n')}\n`);
  return (await mustRun('docker', ['build', '-q', context])).trim();
};

describe('an image for containers', () => {
  it('is one file with all of a source’s, made in the queue', async () => {
    expect(made.map(({ file, kind }) => `${kind} ${file}`)).toEqual([`modules ${FILE}`]);
    expect(await readdir(out)).toEqual([FILE]);
    expect(digestOf(await readFile(join(out, FILE)))).toBe(made[0]?.digest);
  });

  it('is one that other tools read, and bring to a registry by its digest', async () => {
    const archive = `oci-archive:${join(out, FILE)}`;
    const there = JSON.parse(await mustRun('skopeo', ['inspect', archive])) as { Digest: string };
    expect(there).toMatchObject({
      Architecture: 'amd64',
      Os: 'linux',
      Labels: {
        'org.opencontainers.image.title': expect.stringMatching(
          `^Kernel modules of v4l2loopback .* for Linux ${kiln.release}$`,
        ),
      },
    });
    await mustRun('skopeo', ['copy', '--preserve-digests', ...PLAIN, archive, pushed]);
    const now = await mustRun('skopeo', ['inspect', '--tls-verify=false', pushed]);
    expect(JSON.parse(now)).toMatchObject({ Digest: there.Digest, Architecture: 'amd64' });
  });

  it('gives KMM’s worker the modules that were signed, after what they need of the node’s own', async () => {
    const image = await dockerBuild([
      'FROM scratch',
      'COPY busybox /bin/busybox',
      'RUN ["/bin/busybox", "--install", "-s", "/bin"]',
      `COPY --from=${pushed.slice('docker://'.length)} /opt /opt`,
    ]);
    const tmp = join(node, 'tmp');
    const copy = `mkdir -p /tmp/opt/lib/modules; cp -R /${HOME} /tmp/opt/lib/modules`;
    const ran = await run('docker', [
      'run',
      '--rm',
      '-v',
      `${tmp}:/tmp`,
      image,
      '/bin/sh',
      '-c',
      copy,
    ]);
    await mustRun('docker', ['rmi', image]);
    expect(ran).toMatchObject({ status: 0 });
    const { stdout } = await run('chroot', [
      node,
      '/sbin/modprobe',
      '--dry-run',
      '-vd',
      '/tmp/opt',
      '-S',
      kiln.release,
      'v4l2loopback',
    ]);
    const below = `/tmp/${HOME}`;
    expect(stdout.trim().split(/\s*\n/)).toEqual([
      `insmod ${below}/host/kernel/drivers/media/mc/mc.ko`,
      `insmod ${below}/host/kernel/drivers/media/v4l2-core/videodev.ko`,
      `insmod ${below}/updates/v4l2loopback/v4l2loopback.ko`,
    ]);
    const copied = await readFile(join(node, below, 'updates/v4l2loopback/v4l2loopback.ko'));
    expect(digestOf(copied)).toBe((await signed()).modules[0]?.signed);
  });

  it.each([
    ['nothing', undefined, 409, /videodev, which the modules depend on/],
    ['too little', [{ path: VIDEODEV, needs: [MC] }], 409, /^mc, which the modules depend on/],
    ['a path out of it', [{ path: 'kernel/../../etc/x.ko', needs: [] }], 400, /path/],
    ['two paths in one', [{ path: `${MC}: ${VIDEODEV}`, needs: [] }], 400, /path/],
    ['what a line cannot have', [{ path: `${MC}\nx.ko`, needs: [] }], 400, /path/],
  ])('is refused where %s is told of the kernel’s own', async (_what, inTree, status, words) => {
    const answer = await fetch(`${kiln.url}/v1/builds/${(await signed()).id}/packages`, {
      method: 'POST',
      headers: {
        Authorization: `Bearer ${await kiln.newToken('oci-ci', 'ci')}`,
        'Content-Type': 'application/json',
      },
      body: JSON.stringify({ format: 'oci', inTree }),
    });
    expect([answer.status, await answer.json()]).toEqual([
      status,
      expect.objectContaining({ detail: expect.stringMatching(words) }),
    ]);
  });

  it('has firmware where KMM is told to look for it', async () => {
    const camera = await kbuildSource('oci_camera', moduleCode());
    await mkdir(join(camera, 'firmware'));
    await writeFile(join(camera, 'firmware/boot.bin'), 'boot');
    const files = ['--file=/lib/firmware/camera/boot.bin=firmware/boot.bin', '--version=1'];
    const there = await freshDirectory('firmware');
    const asked = ['package', camera, '-k', kiln.release, ...files, '--format=oci', '-o', there];
    await kiln.json(...asked);
    const [file = ''] = await readdir(there);
    const unpacked = await freshDirectory('unpacked');
    await mustRun('skopeo', ['copy', `oci-archive:${join(there, file)}`, `dir:${unpacked}`]);
    const layers = (await readdir(unpacked)).filter((name) => /^[0-9a-f]{64}$/.test(name));
    const lists = await Promise.all(
      layers.map((name) => run('tar', ['-xOf', join(unpacked, name), 'firmware/camera/boot.bin'])),
    );
    expect(lists.map(({ stdout }) => stdout)).toContain('boot');
  });

  it('has no module that needs another source’s', async () => {
    const ground = await kbuildSource('ground', EXPORTING);
    await kiln.json('source', 'push', ground, '--name', 'oci-ground', '--version', '1');
    const code = 'int ground(void);\nint leans(void);\nint leans(void) { return ground(); }';
    const leaning = await kbuildSource('leaning', moduleCode(code));
    const asked = ['package', leaning, '-k', kiln.release, '--depends', 'oci-ground'];
    const { status, stderr } = await kiln.kiln(...asked, '--name', 'oci-leaning', '--format=oci');
    expect([status, stderr]).toEqual([
      2,
      expect.stringMatching(/no oci can be made of oci-leaning, which is built against oci-ground/),
    ]);
  });

  it('is not made where nobody can say what modules need of the kernel’s own', async () => {
    const empty = await freshDirectory('no-kernel');
    const asked = ['package', 'v4l2loopback', '-k', kiln.release, '--format=oci'];
    const { status, stderr } = await kiln.kiln(...asked, '--root', empty);
    expect([status, stderr]).toEqual([
      2,
      expect.stringMatching(/videodev, which the modules depend on, .*--root DIR/),
    ]);
  });

  it('loads what ci says on hosts, and not what any client says', async () => {
    const asked = ['package', 'v4l2loopback', '-k', kiln.release, '--format=oci', '--root', node];
    const home = await freshDirectory('client');
    const token = join(home, 'token');
    await writeFile(token, await kiln.newToken('oci-client', 'client'), { mode: 0o600 });
    const given = { KILN_SERVER: kiln.url, KILN_CONFIG: join(home, 'config') };
    const env = { ...process.env, ...given, KILN_TOKEN_FILE: token };
    const { status, stderr } = await run(CLIENT, asked, { env });
    expect([status, stderr]).toEqual([4, expect.stringMatching(/role ci; this one’s is client/)]);
  });
});
