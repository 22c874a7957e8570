import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { Digest } from '../../services/core/digest.ts';
import type { PackagePlan } from '../../services/core/packages/plan.ts';
import { freshDirectory } from './make-source.ts';
import { mustRun } from './run.ts';

/** Packs on this machine what a plan says, as `images/package` does in the sandbox. `change` may make it wrong before it is packed. */
export const packPlan = async (
  plan: PackagePlan,
  read: (digest: Digest) => Promise<Buffer | string>,
  change: (tree: string) => Promise<unknown> = async () => {},
  options: readonly string[] = ['--root-owner-group'],
): Promise<string> => {
  const home = await freshDirectory('deb');
  const tree = join(home, 'tree');
  await mkdir(join(tree, 'DEBIAN'), { recursive: true });
  await chmod(tree, 0o755);
  for (const { place, content, executable } of plan.files) {
    const bytes =
      'blob' in content
        ? await read(content.blob)
        : 'text' in content
          ? content.text
          : gzipSync('gzip' in content ? content.gzip : '');
    await mkdir(dirname(join(tree, place)), { recursive: true });
    await writeFile(join(tree, place), bytes, { mode: executable === true ? 0o755 : 0o644 });
  }
  for (const [name, text] of Object.entries(plan.control))
    await writeFile(join(tree, 'DEBIAN', name), text, {
      mode: text.startsWith('#!') ? 0o755 : 0o644,
    });
  await sum(tree);
  await change(tree);
  await mustRun('find', [tree, '-exec', 'touch', '-h', '-d', '@1000000000', '{}', '+']);
  const file = join(home, plan.file);
  await mustRun('dpkg-deb', ['-Zxz', ...options, '--build', tree, file]);
  return file;
};

/** Writes the sums of a tree's files, as dpkg keeps them. */
export const sum = (tree: string): Promise<string> =>
  mustRun('bash', [
    '-c',
    `cd ${tree} && find . -path ./DEBIAN -prune -o -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' md5sum >DEBIAN/md5sums`,
  ]);

/** The same for an RPM package. `change` may make the spec, or the files, wrong before it is packed. */
export const packRpm = async (
  plan: PackagePlan,
  read: (digest: Digest) => Promise<Buffer | string>,
  change: (home: string) => Promise<unknown> = async () => {},
): Promise<string> => {
  const home = await freshDirectory('rpm');
  const files = join(home, 'files');
  await mkdir(files);
  for (const { place, content, executable } of plan.files) {
    const bytes =
      'blob' in content ? await read(content.blob) : 'text' in content ? content.text : '';
    await mkdir(dirname(join(files, place)), { recursive: true });
    await writeFile(join(files, place), bytes, { mode: executable === true ? 0o755 : 0o644 });
  }
  await writeFile(
    join(home, 'spec'),
    (plan.control['spec'] ?? '').replaceAll('/pack/files', files),
  );
  await change(home);
  const defines = [
    `_topdir ${home}/rpm`,
    `_rpmdir ${home}`,
    '_rpmfilename package',
    '_buildhost localhost',
    'use_source_date_epoch_as_buildtime 1',
    'clamp_mtime_to_source_date_epoch 1',
    '_binary_payload w6.xzdio',
    '__os_install_post %{nil}',
    'debug_package %{nil}',
    '_build_id_links none',
  ];
  await mustRun(
    'rpmbuild',
    [
      '--quiet',
      '-bb',
      '--target',
      `${plan.arch}-linux`,
      ...defines.flatMap((define) => ['--define', define]),
      join(home, 'spec'),
    ],
    { env: { ...process.env, SOURCE_DATE_EPOCH: '1000000000' } },
  );
  return join(home, 'package');
};
