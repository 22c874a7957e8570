import { copyFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { digestOf } from '../../services/core/digest.ts';
import type { BuildView } from '../../services/core/protocol/build.ts';
import type { PackageView } from '../../services/core/protocol/package.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { run, type Ran } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';
import { videoHost } from '../machine/video-host.ts';

/** An image of modules on a host whose /usr cannot be written to, merged by systemd-sysext. */

const kiln = sharedKiln();
const NAME = `v4l2loopback-modules-${kiln.release}`;
let host: string;
let image: string;
let made: readonly PackageView[];
const LOAD = `/usr/lib/kiln-modules/${NAME}/load`;

/** Runs a script while the images of a host are merged, in a mount namespace of its own. */
const whileMerged = (script: string): Promise<Ran> =>
  run('unshare', [
    '--mount',
    'sh',
    '-c',
    `mount --bind /run /run && mount --bind "$0" "$0" && mount --make-rshared / &&
    systemd-sysext --root="$0" merge >&2 || exit
    (${script})
    status=$?
    systemd-sysext --root="$0" unmerge >&2 && exit $status`,
    host,
  ]);

beforeAll(async () => {
  const out = await freshDirectory('out');
  made = await kiln.json<readonly PackageView[]>(
    'package',
    'v4l2loopback',
    '-k',
    kiln.release,
    '--format=sysext',
    '-o',
    out,
  );
  host = await videoHost(kiln.release);
  image = join(host, 'var/lib/extensions', `${NAME}.raw`);
  await mkdir(dirname(image), { recursive: true });
  for (const file of await readdir(out))
    await copyFile(join(out, file), join(dirname(image), file));
  // The kernel that runs here is another, and loads none of these.
  await mkdir(join(host, 'as-if'));
  await writeFile(join(host, 'as-if/uname'), `#!/bin/sh\necho ${kiln.release}\n`, { mode: 0o755 });
  await writeFile(
    join(host, 'as-if/modprobe'),
    `#!/bin/sh\nexec /sbin/modprobe --dry-run --verbose --set-version ${kiln.release} "$@"\n`,
    { mode: 0o755 },
  );
});

describe('an image of modules', () => {
  it('is one file with all of a source’s, made in the queue', async () => {
    expect(made.map(({ file, kind }) => `${kind} ${file}`)).toEqual([`modules ${NAME}.raw`]);
    expect(digestOf(await readFile(image))).toBe(made[0]?.digest);
  });

  it('is merged over /usr with the modules that were signed', async () => {
    const [build] = (await kiln.json<readonly BuildView[]>('list')).filter(
      ({ source, state }) => source.name === 'v4l2loopback' && state === 'succeeded',
    );
    const place = `usr/lib/modules/${kiln.release}/updates/v4l2loopback/v4l2loopback.ko`;
    const { status, stdout } = await whileMerged(`sha256sum <"$0/${place}"; ls -l "$0/${place}"`);
    expect([status, stdout]).toEqual([
      0,
      expect.stringMatching(/^[0-9a-f]{64} {2}-\n-rw-r--r-- 1 root root /),
    ]);
    expect(`sha256:${stdout.slice(0, 64)}`).toBe(build?.modules[0]?.signed);
  });

  it('has its modules loaded after what they need of the kernel’s own, though its index cannot be written to', async () => {
    const before = await readFile(join(host, 'lib/modules', kiln.release, 'modules.dep'), 'utf8');
    const { status, stdout, stderr } = await whileMerged(
      `chroot "$0" env PATH=/as-if:/usr/sbin:/usr/bin:/sbin:/bin ${LOAD} ${kiln.release} v4l2loopback; ls "$0/run"`,
    );
    const loaded = [...stdout.matchAll(/^insmod (\S+)/gm)].map(([, path]) => basename(path ?? ''));
    expect([status, loaded, stderr]).toEqual([
      0,
      ['mc.ko', 'videodev.ko', 'v4l2loopback.ko'],
      expect.any(String),
    ]);
    expect(stdout).not.toMatch(/^kiln-modules/m);
    expect(await readFile(join(host, 'lib/modules', kiln.release, 'modules.dep'), 'utf8')).toBe(
      before,
    );
  });

  it('loads nothing where another kernel runs', async () => {
    const { status, stdout } = await whileMerged(
      `chroot "$0" ${LOAD} ${kiln.release} v4l2loopback`,
    );
    expect([status, stdout]).toEqual([0, '']);
  });
});
