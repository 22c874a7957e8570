import {
  chmod,
  cp,
  lstat,
  mkdir,
  readdir,
  readFile,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { dkmsSource, freshDirectory, moduleCode } from '../machine/make-source.ts';
import { CLIENT } from '../machine/places.ts';
import { mustRun, run, type Ran } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';
import { makeSmallRoot } from '../machine/small-root.ts';

/**
 * A root that is somebody else's (`--root`), with a link at each path, in turn, that the client writes in it: nothing outside of that root
 * changes. Which paths these are, strace says.
 */

const kiln = sharedKiln();
const { release } = kiln;
const NAME = 'in-a-foreign-root';
const CHANGES =
  /(?:open|creat|rename|unlink|mkdir|rmdir|link|chmod|chown|truncate|utime|mknod|setxattr)/;
/** depmod's names of files that are not whole yet: of its own process and moment. */
const OF_ONE_RUN = /\.\d+\.\d+\.\d+$/;

/** depmod writes them all in the same way. */
const OTHER_INDEX = /\/modules\.(?!dep(\.kiln-old)?$)/;

/** A life in few commands. What is refused on the way does not keep the next from being tried. */
const LIFE: readonly (readonly string[])[] = [
  ['install', `${NAME}/1.0`, '-k', release],
  // There is no such version, which is noted.
  ['install', `${NAME}/9.9`, '-k', release],
  ['install', `${NAME}/2.0`, '-k', release],
  ['rollback'],
  ['autoinstall', '-k', release],
  ['remove', NAME],
  ['autoremove', '-k', release],
  ['recover'],
];

let certificate: string;
let pristine: string;

const call = (root: string, words: readonly string[], ...tracer: string[]): Promise<Ran> => {
  const given = [...words, '--root', root, '-q', '--certificate', certificate];
  const [program = CLIENT, ...rest] = [...tracer, ...(tracer.length === 0 ? [] : [CLIENT])];
  return run(program, [...rest, ...given], {
    env: {
      PATH: process.env['PATH'],
      KILN_SERVER: kiln.url,
      KILN_TOKEN_FILE: join(kiln.data, 'admin.token'),
      KILN_CONFIG: '/nowhere',
    },
  });
};

const freshRoot = async (): Promise<string> => {
  const root = join(await freshDirectory('foreign'), 'root');
  await cp(pristine, root, { recursive: true, verbatimSymlinks: true });
  return root;
};

/** What is outside, in one text. */
const stateOf = async (directory: string): Promise<string> =>
  mustRun(
    'sh',
    [
      '-c',
      'find . -printf "%P %y %m %T@ %l\\n" | sort; find . -type f -exec sha256sum {} + | sort',
    ],
    { cwd: directory },
  );

/** The paths that a life changes, below the root, and how many of its commands it takes until then. */
const changedPaths = async (): Promise<ReadonlyMap<string, number>> => {
  const root = await freshRoot();
  const paths = new Map<string, number>();
  for (const [index, words] of LIFE.entries()) {
    const log = join(await freshDirectory('trace'), 'log');
    const tracer = ['strace', '-f', '-qq', '-y', '-e', 'trace=%file,fchmod', '-o', log];
    await call(root, words, ...tracer);
    for (const line of (await readFile(log, 'utf8')).split('\n')) {
      const name = /^\d+ +(\w+)\(/.exec(line)?.[1] ?? '';
      if (!CHANGES.test(name) || name === 'readlink' || / = -1 /.test(line)) continue;
      if (name.startsWith('open') && !/O_WRONLY|O_RDWR|O_CREAT/.test(line)) continue;
      for (const [, at = '', path = ''] of line.matchAll(/(?:\b\w+<([^>]*)>, )?"([^"]*)"/g)) {
        const place = path.startsWith('/') ? path : join(at, path);
        const below = place.slice(root.length + 1);
        if (!place.startsWith(`${root}/`) || OF_ONE_RUN.test(below) || OTHER_INDEX.test(below))
          continue;
        for (const each of [below, ...ancestors(below)])
          if (!paths.has(each)) paths.set(each, index + 1);
      }
    }
  }
  return paths;
};

beforeAll(async () => {
  for (const version of ['1.0', '2.0']) {
    const code = moduleCode(`MODULE_DESCRIPTION("${version}");`);
    const source = await dkmsSource(NAME, 'AUTOINSTALL=yes', { [`${NAME}.c`]: code });
    await mustRun('sed', ['-i', `s/VERSION=1.0/VERSION=${version}/`, join(source, 'dkms.conf')]);
    await kiln.json('source', 'push', source);
  }
  pristine = await makeSmallRoot(release);
  certificate = join(await freshDirectory('pinned'), 'signer.pem');
  const authorization = `Authorization: Bearer ${await kiln.adminToken()}`;
  const answer = await mustRun('curl', ['-sSf', '-H', authorization, `${kiln.url}/v1/signers`]);
  const { items } = JSON.parse(answer) as { items: { certificate: string }[] };
  await writeFile(certificate, items[0]?.certificate ?? '');
});

describe('a root with a link to somewhere else', () => {
  it('at any path that the client changes leaves what is there as it was, and nothing new beside it', async () => {
    const paths = await changedPaths();
    // It is the whole life: files, what is beside them meanwhile, receipts, the journal, what is kept for a rollback, the lock.
    const parts =
      'updates/kiln/ .kiln-new .kiln-old receipts/ journal.json previous failures.json lock modules.dep';
    for (const part of parts.split(' '))
      expect([...paths.keys()].filter((path) => path.includes(part))).not.toEqual([]);
    for (const [path, count] of paths) {
      const root = await freshRoot();
      const outside = await freshDirectory('outside');
      const place = join(root, path);
      const target = join(outside, 'target');
      const isDirectory = [...paths.keys()].some((each) => each.startsWith(`${path}/`));
      await mkdir(dirname(place), { recursive: true });
      if (await isThere(place))
        await cp(place, target, { recursive: true, verbatimSymlinks: true });
      else if (isDirectory) await mkdir(target);
      else await writeFile(target, 'not of that root\n');
      await rm(place, { recursive: true, force: true });
      await symlink(target, place);
      const before = await stateOf(outside);
      for (const words of LIFE.slice(0, count + 1)) await call(root, words);
      expect({ path, state: await stateOf(outside) }).toEqual({ path, state: before });
    }
  });
});

describe('programs of a root that is somebody else’s', () => {
  it('are not run unless that is asked for: the module is installed with this machine’s depmod, and what is left to do is said', async () => {
    const root = await freshRoot();
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
    const config = join(await freshDirectory('config'), 'config');
    await writeFile(config, 'weak-updates = yes\n');
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

const isThere = (place: string): Promise<boolean> =>
  lstat(place).then(
    () => true,
    () => false,
  );

const ancestors = (path: string): string[] =>
  path
    .split('/')
    .slice(0, -1)
    .map((_, index, parts) => parts.slice(0, index + 1).join('/'));
