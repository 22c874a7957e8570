import { cp, mkdir, mkdtemp, realpath, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { run as runProgram } from '../host/programs.ts';
import { isThere } from './look.ts';
import { DkmsEnd } from './end.ts';
import type { DkmsRun } from './run.ts';
import { builtHome, homeOf, labelOf, sourceLink, type Added, type Target } from './tree.ts';

/** Characters of a tarball's name that may tell kernels. */
const NAME_ROOM = 200;

/** `dkms mktarball`: a source and what was built of it in one file, with what proves where the modules come from. */
export const makeTarball = async (
  run: DkmsRun,
  added: Added,
  targets: readonly Target[],
): Promise<void> => {
  const { session } = run;
  const { places, call } = session;
  const work = await mkdtemp(join(tmpdir(), 'dkms.'));
  try {
    const main = join(work, 'dkms_main_tree');
    await mkdir(main);
    const kernels: string[] = [];
    for (const target of call.sourceOnly ? [] : targets) {
      const built = builtHome(places, target);
      if (!(await isThere(built)))
        throw new DkmsEnd(6, [
          `No modules built for ${target.release} (${target.arch}).`,
          'Modules must already be in the built state before using mktarball.',
        ]);
      session.say(`Marking modules for ${target.release} (${target.arch}) for archiving...`);
      kernels.push(`kernel${target.release}-${target.arch}`);
      await cp(built, join(main, target.release, target.arch), { recursive: true });
    }
    const source = sourceLink(places, added);
    session.say('');
    if (call.binariesOnly)
      throw new DkmsEnd(8, [
        'Kiln takes no modules without their source: nobody could tell what they are.',
        'Leave --binaries-only out.',
      ]);
    session.say(`Marking ${source} for archiving...`);
    await cp(await realpath(source), join(work, 'dkms_source_tree'), {
      recursive: true,
      verbatimSymlinks: true,
    });
    const which = call.sourceOnly ? 'source-only' : kernels.join('-');
    const name = `${added.module}-${added.version}-${which.length > NAME_ROOM ? 'manykernels' : which}.dkms.tar.gz`;
    const place = call.archive ?? join(homeOf(places, added), 'tarball', name);
    session.say('');
    session.say(`Tarball location: ${dirname(place)}/${basename(place)}`);
    await mkdir(dirname(place), { recursive: true }).catch(() => {
      throw new DkmsEnd(9, [`Missing write permissions for ${dirname(place)}.`]);
    });
    const end = await runProgram('tar', ['-C', work, '-caf', `${place}.kiln-new.tar.gz`, '.'], {
      seconds: 600,
    });
    if (end.status !== 0)
      throw new DkmsEnd(6, [`Failed to make tarball of ${labelOf(added)}: ${end.words}`]);
    await rename(`${place}.kiln-new.tar.gz`, place);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
};
