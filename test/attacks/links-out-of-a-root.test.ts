import { chmod, cp, mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { beforeAll, describe, expect, it } from '@jest/globals';
import type { SourceView } from '../../services/core/protocol/source.ts';
import { dkmsSource, freshDirectory, moduleCode, writeTree } from '../machine/make-source.ts';
import { CLIENT } from '../machine/places.ts';
import { changedPaths, liveWithLink, type Life } from '../machine/planted-links.ts';
import { mustRun, run, type Ran } from '../machine/run.ts';
import { layDkms, settle } from '../machine/settled-root.ts';
import { sharedKiln } from '../machine/shared.ts';
import { IS_THOROUGH } from '../machine/thorough.ts';
import { makeSmallRoot } from '../machine/small-root.ts';

/**
 * A root that is somebody else's (`--root`), with a link at each path, in turn, that the client writes in it: nothing outside of that root
 * changes.
 */

const kiln = sharedKiln();
const { release } = kiln;
const NAME = 'in-a-foreign-root';
const DKMS_NAME = 'dkms-in-a-foreign-root';
/** The same kernel under a newer name, as a rebuilt one with the same symbols. */
const TWIN = release.replace(/-(\d+)-/, (_, abi: string) => `-${Number(abi) + 1}-`);

/** Files that the source brings for hosts. */
const FOR_HOSTS = [
  '--file=/lib/firmware/foreign/a.bin=a.bin',
  '--file=/lib/udev/rules.d/60-foreign.rules=a.rules',
  '--file=/lib/modprobe.d/foreign.conf=a.conf',
];

let certificate: string;
let pristine: string;
let settled: string;

/** A configuration file with these lines; its path. */
const configured = async (...lines: readonly string[]): Promise<string> => {
  const file = join(await freshDirectory('config'), 'config');
  await writeFile(file, lines.map((line) => `${line}\n`).join(''));
  return file;
};

/** How commands are run on a root: with a configuration and more options. */
const calling =
  (config: () => Promise<string>, ...more: readonly string[]): Life['call'] =>
  async (root, words, ...tracer) => {
    const given = [...words, '--root', root, '-q', '--certificate', certificate, ...more];
    const [program = CLIENT, ...rest] = [...tracer, ...(tracer.length === 0 ? [] : [CLIENT])];
    return run(program, [...rest, ...given], {
      env: {
        PATH: process.env['PATH'],
        KILN_SERVER: kiln.url,
        KILN_TOKEN_FILE: join(kiln.data, 'admin.token'),
        KILN_CONFIG: await config(),
      },
    });
  };

const copyOf = (from: () => string) => async (): Promise<string> => {
  const root = join(await freshDirectory('foreign'), 'root');
  await cp(from(), root, { recursive: true, verbatimSymlinks: true });
  return root;
};

const plainLife: Life = {
  commands: [
    ['install', `${NAME}/1.0`, '-k', release],
    // There is no such version, which is noted.
    ['install', `${NAME}/9.9`, '-k', release],
    ['install', `${NAME}/2.0`, '-k', release],
    ['rollback'],
    ['autoinstall', '-k', release],
    ['remove', NAME],
    ['autoremove', '-k', release],
    ['recover'],
  ],
  freshRoot: copyOf(() => pristine),
  call: calling(async () => '/nowhere'),
};

/** A root that is lived in: two kernels, one of which the other's modules fit; GRUB, an initramfs, and a module of DKMS's. */
const fullLife: Life = {
  commands: [
    ['import-dkms'],
    ['install', `${NAME}/2.0`, '-k', release],
    ['install', `${NAME}/2.0`, '-k', TWIN],
    ['guard', '--undo'],
    ['verify'],
    ['rollback'],
    ['autoremove', '-k', release],
    ['remove', NAME, DKMS_NAME],
  ],
  freshRoot: copyOf(() => settled),
  call: calling(() => configured('weak-updates = yes', 'guard = yes'), '--run-programs-of-root'),
};

beforeAll(async () => {
  for (const version of ['1.0', '2.0']) {
    const code = moduleCode(`MODULE_DESCRIPTION("${version}");`);
    const files = { 'a.conf': '# of the source\n', 'a.rules': '# too\n', 'a.bin': version };
    const source = await dkmsSource(NAME, 'AUTOINSTALL=yes', { [`${NAME}.c`]: code, ...files });
    await mustRun('sed', ['-i', `s/VERSION=1.0/VERSION=${version}/`, join(source, 'dkms.conf')]);
    await kiln.json('source', 'push', source, ...FOR_HOSTS);
  }
  pristine = await makeSmallRoot(release);
  settled = await freshDirectory('settled');
  await settle(settled, release, TWIN);
  await layDkms(settled, DKMS_NAME, release);
  // A module of the same name that another tool has put there is moved aside.
  const rival = join(settled, 'lib/modules', release, 'extra', `${NAME}.ko`);
  await mkdir(dirname(rival), { recursive: true });
  await writeFile(rival, 'of another tool');
  certificate = join(await freshDirectory('pinned'), 'signer.pem');
  const authorization = `Authorization: Bearer ${await kiln.adminToken()}`;
  const answer = await mustRun('curl', ['-sSf', '-H', authorization, `${kiln.url}/v1/signers`]);
  const { items } = JSON.parse(answer) as { items: { certificate: string }[] };
  await writeFile(certificate, items[0]?.certificate ?? '');
});

/** Of paths in one directory, one of each ending that the client gives files meanwhile; all where it is thorough. */
const oneOfEachKind = (paths: readonly string[]): readonly string[] => {
  if (IS_THOROUGH) return paths;
  const kindOf = (path: string): string =>
    `${dirname(path)} ${/\.kiln-\w+$/.exec(path)?.[0] ?? ''}`;
  return [...new Map(paths.map((path) => [kindOf(path), path])).values()];
};

describe('a root with a link to somewhere else', () => {
  it('at any path that the client changes leaves what is there as it was, and nothing new beside it', async () => {
    const paths = await changedPaths(plainLife);
    // It is the whole life: files, what is beside them meanwhile, receipts, the journal, what is kept for a rollback, the lock.
    const parts =
      'updates/kiln/ .kiln-new .kiln-old receipts/ journal.json previous failures.json lock modules.dep firmware/updates/ rules.d/ modprobe.d/';
    for (const part of parts.split(' '))
      expect([...paths.keys()].filter((path) => path.includes(part))).not.toEqual([]);
    for (const path of oneOfEachKind([...paths.keys()])) {
      const { before, after } = await liveWithLink(plainLife, paths, path);
      expect({ path, state: after }).toEqual({ path, state: before });
    }
  });

  it('at any path that import-dkms, weak updates, guard or an initramfs change, either', async () => {
    const known = await changedPaths(plainLife);
    const paths = await changedPaths(fullLife);
    const added = [...paths.keys()].filter(
      (path) => !known.has(path) && !/receipts\/|previous\/|modules\.dep/.test(path),
    );
    const parts = `var/lib/dkms/ updates/dkms/ ${TWIN}/weak-updates/kiln/ boot/initrd.img guard.json displaced/`;
    for (const part of parts.split(' '))
      expect({ part, paths: added.filter((path) => path.includes(part)) }).not.toEqual({
        part,
        paths: [],
      });
    for (const path of [
      ...oneOfEachKind(added),
      'boot/grub',
      'etc',
      'usr/src',
      'lib/modules',
      'var/lib/kiln',
    ]) {
      const { before, after } = await liveWithLink(fullLife, paths, path);
      expect({ path, state: after }).toEqual({ path, state: before });
    }
  });

  it.each(['etc/dkms', 'etc/dkms/leaky.conf', 'usr/src/leaky-1.0/dkms.conf'])(
    'at %s has nothing of there sent along with what DKMS has',
    async (path) => {
      const name = `leaky-${path.replaceAll(/[^a-z]/g, '')}`;
      const root = await makeSmallRoot(release);
      const secret = await writeTree('secrets', { [`${name}.conf`]: 'TOKEN=of-this-machine\n' });
      await layDkms(root, name, release);
      const place = join(root, path.replace('leaky', name));
      await mkdir(dirname(place), { recursive: true });
      await mustRun('rm', ['-rf', place]);
      await symlink(path.endsWith('.conf') ? join(secret, `${name}.conf`) : secret, place);
      const { stdout } = await plainLife.call(root, ['import-dkms']);
      if (path.startsWith('etc')) expect(stdout).toMatch(/left to DKMS: .* leads out of /);
      const pushed = (await kiln.json<SourceView[]>('source', 'list')).filter(
        (each) => each.name === name,
      );
      expect(JSON.stringify(pushed)).not.toContain('of-this-machine');
    },
  );
});

describe('programs of a root that is somebody else’s', () => {
  it('are not run unless that is asked for: the module is installed with this machine’s depmod, and what is left to do is said', async () => {
    const root = await plainLife.freshRoot();
    // A shell, so that they could run.
    for (const file of [
      '/bin/sh',
      '/lib64/ld-linux-x86-64.so.2',
      '/lib/x86_64-linux-gnu/libc.so.6',
    ]) {
      await mkdir(dirname(join(root, file)), { recursive: true });
      await cp(file, join(root, file), { dereference: true });
    }
    const names =
      'depmod update-initramfs lsinitramfs dracut weak-modules dkms bootctl grub-set-default';
    await mkdir(join(root, 'usr/sbin'), { recursive: true });
    for (const name of names.split(' ')) {
      const program = join(root, 'usr/sbin', name);
      await writeFile(program, `#!/bin/sh\necho ran >/ran-${name}\n`);
      await chmod(program, 0o755);
    }
    await mkdir(join(root, 'boot'), { recursive: true });
    await writeFile(join(root, `boot/initrd.img-${release}`), 'an image');
    const config = await configured('weak-updates = yes');
    const install = (...more: string[]): Promise<Ran> =>
      run(
        CLIENT,
        ['install', NAME, '-k', release, '--root', root, '--certificate', certificate, ...more],
        {
          env: {
            PATH: process.env['PATH'],
            KILN_SERVER: kiln.url,
            KILN_TOKEN_FILE: join(kiln.data, 'admin.token'),
            KILN_CONFIG: config,
          },
        },
      );
    const ran = async (): Promise<readonly string[]> =>
      (await readdir(root)).filter((name) => name.startsWith('ran-'));
    const { status, stderr } = await install();
    expect({ status, stderr }).toMatchObject({
      status: 0,
      stderr: expect.stringMatching(
        /initrd\.img.* make it anew: run update-initramfs -u -k .* in .*only with --run-programs-of-root/,
      ),
    });
    expect(stderr).toMatch(/run weak-modules --add-modules .* in /);
    expect(await ran()).toEqual([]);
    expect(await readFile(join(root, 'lib/modules', release, 'modules.dep'), 'utf8')).toContain(
      NAME,
    );
    expect(await install('--force', '--run-programs-of-root')).toMatchObject({ status: 0 });
    expect(await ran()).toContain('ran-weak-modules');
  });
});
