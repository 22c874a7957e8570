import { cp, mkdir, mkdtemp, readdir, realpath, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { machine, release as runningRelease, tmpdir } from 'node:os';
import { run as runProgram } from '../host/programs.ts';
import { DkmsEnd, EXIT } from './end.ts';
import { isDirectory, isFile, isThere } from './look.ts';
import { DKMS_NAME } from './names.ts';
import type { DkmsRun } from './run.ts';
import { runScript } from './scripts.ts';
import { buildHome, homeOf, isAdded, labelOf, sourceLink, type Added } from './tree.ts';
import { layVersion } from './whole.ts';

/** What a command names, once a directory or a tarball that stands for it was taken into the source tree. Throws `DkmsEnd(1)` where nothing is named. */
export const namedModule = async (run: DkmsRun, verb: string): Promise<Added> => {
  const { module, version, archive, sourceTree } = run.session.call;
  if (module === '' && version === '') {
    if (archive !== null) return loadTarball(run, archive);
    if (sourceTree !== null) return addSourceTree(run, sourceTree);
  }
  mustBeNamed(verb, { module, version });
  return { module, version };
};

export const mustBeNamed = (verb: string, { module, version }: Added): void => {
  if (module !== '' && version !== '') return;
  throw new DkmsEnd(EXIT.usage, [
    'Arguments <module> and <module-version> are not specified.',
    `Usage: ${verb} <module>/<module-version> or`,
    `       ${verb} -m <module>/<module-version> or`,
    `       ${verb} -m <module> -v <module-version>`,
  ]);
};

/** Adds a version of a source to dkms's tree: a link to where it is, and its POST_ADD script. */
export const addModule = async (run: DkmsRun, added: Added): Promise<void> => {
  const { session } = run;
  const { places } = session;
  if (await isAdded(places, added))
    throw new DkmsEnd(3, [
      `DKMS tree already contains: ${labelOf(added)}`,
      'You cannot add the same module/version combo more than once.',
    ]);
  const source = join(places.sources, `${added.module}-${added.version}`);
  if (!(await isDirectory(source)))
    throw new DkmsEnd(2, [
      'Could not find module source directory.',
      `Directory: ${source} does not exist.`,
    ]);
  const file = session.call.conf ?? join(source, 'dkms.conf');
  const [release = runningRelease()] = session.call.kernels;
  const conf = await run.confs.read(
    { ...added, release, arch: session.call.arches[0] ?? machine(), file },
    'strict',
  );
  const link = sourceLink(places, added);
  session.say(`Creating symlink ${link} -> ${source}`);
  await layVersion(homeOf(places, added), source);
  await runScript(session, added, 'post_add', conf.scripts);
};

/** Copies a directory with a dkms.conf into the source tree, unless it is there already. */
export const addSourceTree = async (run: DkmsRun, from: string): Promise<Added> => {
  const { session } = run;
  const { places, call } = session;
  const place = await realpath(from).catch(() => null);
  const file = place === null ? null : join(place, 'dkms.conf');
  if (place === null || file === null || !(await isFile(file)))
    throw new DkmsEnd(9, [`${from} must contain a dkms.conf file!`]);
  const [release = runningRelease()] = call.kernels;
  const conf = await run.confs.read({
    module: '',
    version: '',
    release,
    arch: call.arches[0] ?? machine(),
    file,
  });
  const added = { module: conf.name, version: conf.version };
  mustBeNames(added);
  const to = join(places.sources, `${added.module}-${added.version}`);
  if (call.force && place !== to) {
    if (await isThere(to)) {
      session.complain('');
      session.complain(`Forcing install of ${labelOf(added)}`);
      await rm(to, { recursive: true });
    }
  }
  if (
    [
      to,
      await realpath(sourceLink(places, added)).catch(() => ''),
      buildHome(places, added),
    ].includes(place)
  )
    return added;
  await mkdir(to, { recursive: true, mode: 0o755 });
  await cp(place, to, {
    recursive: true,
    force: true,
    preserveTimestamps: true,
    verbatimSymlinks: true,
  });
  return added;
};

/** A source's own words become a path: nothing else than a name may. */
const mustBeNames = ({ module, version }: Added): void => {
  if (DKMS_NAME.test(module) && DKMS_NAME.test(version)) return;
  throw new DkmsEnd(10, [
    'Malformed dkms.conf file. Cannot load source tree.',
    `PACKAGE_NAME ${JSON.stringify(module)} and PACKAGE_VERSION ${JSON.stringify(version)} must be names of letters, digits, _ . + ~ and -.`,
  ]);
};

/** Takes a tarball's source into the source tree: any with one dkms.conf in it, or what `mktarball` made. */
export const loadTarball = async (run: DkmsRun, archive: string): Promise<Added> => {
  const { session } = run;
  if (!(await isThere(archive))) throw new DkmsEnd(2, [`${archive} does not exist.`]);
  const directory = await mkdtemp(join(tmpdir(), 'dkms.'));
  try {
    const place = await realpath(archive);
    const args = ['--no-same-owner', '--no-same-permissions', '-C', directory, '-xaf', place];
    const end = await runProgram('tar', args, { seconds: 600 });
    if (end.status !== 0) throw new DkmsEnd(3, [`${archive} cannot be unpacked: ${end.words}`]);
    const main = join(directory, 'dkms_main_tree');
    if (!(await isDirectory(main))) {
      const conf = await findConf(directory);
      if (conf === null)
        throw new DkmsEnd(3, [
          'Tarball does not appear to be a correctly formed DKMS archive. No dkms.conf found within it.',
        ]);
      return await addSourceTree(run, dirname(conf));
    }
    const source = join(directory, 'dkms_source_tree');
    if (!(await isFile(join(source, 'dkms.conf'))))
      throw new DkmsEnd(7, [
        'No valid dkms.conf in dkms_source_tree or dkms_binaries_only.',
        `${archive} is not a valid DKMS tarball.`,
      ]);
    const added = await addSourceTree(run, source);
    if ((await isAdded(session.places, added)) && !session.call.force)
      throw new DkmsEnd(8, [`${labelOf(added)} is already added!`, 'Aborting.']);
    session.say('');
    session.say(`Loading tarball for ${labelOf(added)}`);
    await loadBuilt(run, added, main);
    return added;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
};

/** Takes what a tarball has of built modules into the tree: only what Kiln can prove is installed from there. */
const loadBuilt = async ({ session }: DkmsRun, added: Added, main: string): Promise<void> => {
  for (const release of await readdir(main))
    for (const arch of await readdir(join(main, release))) {
      if (!DKMS_NAME.test(release) || !DKMS_NAME.test(arch)) continue;
      const place = join(session.places.tree, added.module, added.version, release, arch);
      if ((await isDirectory(place)) && !session.call.force) {
        session.complain(`Warning: ${place} already exists. Skipping...`);
        continue;
      }
      session.say(`Loading ${place}...`);
      await rm(place, { recursive: true, force: true });
      await mkdir(dirname(place), { recursive: true, mode: 0o755 });
      await cp(join(main, release, arch), place, { recursive: true, verbatimSymlinks: true });
    }
};

const findConf = async (directory: string): Promise<string | null> => {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const found = entries.find((entry) => entry.isFile() && basename(entry.name) === 'dkms.conf');
  return found === undefined ? null : join(found.parentPath, found.name);
};
