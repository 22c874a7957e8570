import { appendFile, mkdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { freshDirectory } from './make-source.ts';
import { mustRun } from './run.ts';

/** A host with a kernel that somebody built there, in the source itself. */
export interface OwnKernel {
  readonly release: string;
  readonly root: string;
  /** The tree behind `/lib/modules/RELEASE/build`. */
  readonly tree: string;
}

const SOURCE = '/home/dev/linux';
const OUTSIDE = '/home/dev/out';

/** Bytes that debug information adds to a program: more than a distribution's whole programs have. */
const DEBUG_INFORMATION = 5_000_000;

/** What a build adds to a tree that modules are built against. */
export const BUILT = [
  '.config',
  'Module.symvers',
  'include/config',
  'include/generated',
  'arch/x86/include/generated',
  'scripts/basic/fixdep',
  'scripts/mod/modpost',
  'arch/x86/module.lds',
  'tools/objtool/objtool',
];

/** What a build leaves and no module's build reads. */
const LEFTOVERS = {
  'init/main.o': 'an object',
  'init/.main.o.cmd': 'how it was made',
  'certs/signing_key.pem': 'the key of the kernel’s own modules',
};

/** Makes one tree of Debian's headers, under a release of its own. */
export const ownKernel = async (
  headers: string,
  debian: string,
  release = debian.replace(/-[^.]*$/, '-forge'),
): Promise<OwnKernel> => {
  const root = await freshDirectory('own-kernel');
  const tree = join(root, SOURCE);
  const src = join(headers, 'usr/src');
  await mkdir(tree, { recursive: true });
  const [kbuild = ''] = (
    await mustRun('find', [join(headers, 'usr/lib'), '-maxdepth', '1', '-name', 'linux-kbuild-*'])
  )
    .trim()
    .split('\n');
  const common = join(
    src,
    (await mustRun('ls', [src])).split('\n').find((name) => name.endsWith('-common')) ?? '',
  );
  const own = join(src, `linux-headers-${debian}`);
  await mustRun('cp', [
    '-a',
    ...['Makefile', 'arch', 'include'].map((name) => join(common, name)),
    ...['scripts', 'tools'].map((name) => join(kbuild, name)),
    tree,
  ]);
  await mustRun('cp', [
    '-a',
    ...['.config', 'Module.symvers', 'arch', 'include'].map((name) => join(own, name)),
    tree,
  ]);
  const modpost = join(tree, 'scripts/mod/modpost');
  await rename(`${modpost}.real-lsb-64`, modpost);
  for (const file of [
    '.config',
    'include/config/auto.conf',
    'include/generated/autoconf.h',
    'include/generated/utsrelease.h',
  ]) {
    const text = await readFile(join(tree, file), 'utf8');
    await writeFile(join(tree, file), text.replaceAll(debian, release));
  }
  await appendFile(join(tree, 'tools/objtool/objtool'), Buffer.alloc(DEBUG_INFORMATION));
  for (const [path, text] of Object.entries(LEFTOVERS)) {
    await mkdir(dirname(join(tree, path)), { recursive: true });
    await writeFile(join(tree, path), text);
  }
  await mkdir(join(root, 'lib/modules', release), { recursive: true });
  await symlink(SOURCE, join(root, 'lib/modules', release, 'build'));
  return { release, root, tree };
};

/** The same kernel on the same host, built outside its source: `make O=/home/dev/out`. */
export const builtOutside = async ({ release, root, tree }: OwnKernel): Promise<OwnKernel> => {
  const outside = join(root, OUTSIDE);
  for (const path of BUILT) {
    await mkdir(dirname(join(outside, path)), { recursive: true });
    await rename(join(tree, path), join(outside, path));
  }
  await writeFile(
    join(outside, 'Makefile'),
    `# Automatically generated\ninclude ${SOURCE}/Makefile\n`,
  );
  await symlink(SOURCE, join(outside, 'source'));
  const link = join(root, 'lib/modules', release, 'build');
  await rm(link);
  await symlink(OUTSIDE, link);
  return { release, root, tree: outside };
};
