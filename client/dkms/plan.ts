import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { digestOf } from '../../services/core/digest.ts';
import { KilnError } from '../../services/core/errors.ts';
import { readModule } from '../host/kernel-modules.ts';
import { firmwareGone, layFiles } from '../install/host-files.ts';
import { gone, receiptFor, standingOf, type Planner } from '../install/plan.ts';
import { receiptChange, type Receipt } from '../installed/receipts.ts';
import type { Change } from '../transaction/change.ts';
import type { ConfModule } from './conf.ts';
import type { Locate } from './place.ts';
import type { DkmsPlaces } from './session.ts';
import {
  activeLink,
  activeTarget,
  builtHome,
  moduleIn,
  originalsHome,
  type Target,
} from './tree.ts';

/** A module that was there before, and is moved aside. */
export interface Original {
  /** Where it is, as a path of the host. */
  readonly path: string;
}

/**
 * Plans an installation as dkms makes it: modules as they are in its tree go where the distribution has dkms's, the kernel's own of the
 * same names into the tree's `original_module`, and the link that names the installed version changes with them.
 */
export const planDkms =
  (
    places: DkmsPlaces,
    target: Target,
    given: {
      readonly modules: readonly ConfModule[];
      readonly locate: Locate;
      readonly originals: readonly Original[];
    },
  ): Planner =>
  async (host, fetched, terms) => {
    const { build, modules } = fetched;
    // What it was built against has been installed by its own name.
    if (build.source.name !== target.module || build.source.version !== target.version) return null;
    const changes: Change[] = [];
    const laid: Receipt['modules'] = [];
    for (const wanted of given.modules) {
      const module = modules.find(({ name }) => name === wanted.name);
      const file = await moduleIn(join(builtHome(places, target), 'module'), wanted.name);
      if (module === undefined || file === null)
        throw new KilnError(
          'install-failed',
          `Missing module ${wanted.name} in ${builtHome(places, target)}/module`,
        );
      const bytes = await readFile(file);
      if (!(await readModule(file)).equals(module.bytes))
        throw new KilnError(
          'unverified',
          `${file} has other bytes than were built; dkms unbuild ${target.module}/${target.version} -k ${target.release}, then install again`,
        );
      const path = `${given.locate(wanted)}/${basename(file)}`;
      changes.push({ path: `lib/modules/${target.release}/${path}`, to: bytes });
      const { unsigned = digestOf(module.bytes) } =
        build.modules.find(({ name }) => name === wanted.name) ?? {};
      laid.push({
        name: wanted.name,
        modname: module.modname,
        path,
        digest: digestOf(bytes),
        module: digestOf(module.bytes),
        unsigned,
      });
    }
    const before = standingOf(terms.receipts, target.module, target.release);
    const displaced: Receipt['displaced'] = [...(before?.displaced ?? [])];
    const home = originalsHome(places, target).slice(1);
    for (const { path } of given.originals) {
      const kept = `${home}/${basename(path)}`;
      const [, below = ''] = /^\/(?:usr\/)?lib\/modules\/[^/]+\/(.+)$/.exec(path) ?? [];
      displaced.push({ path: below, kept });
      changes.unshift(
        { path: kept, to: await readFile(path) },
        { path: `${kept}.origin`, to: Buffer.from(`${path}\n`) },
        { path: `lib/modules/${target.release}/${below}`, to: null },
      );
    }
    const brought = await layFiles(host, fetched, terms.receipts);
    const receipt: Receipt = {
      ...receiptFor(fetched, terms, { laid, files: brought.files, displaced }),
      dkmsTree: places.tree,
    };
    return {
      receipt,
      changes: [
        ...gone(before, laid),
        ...firmwareGone(before, brought.files),
        ...changes,
        ...brought.changes,
        { path: activeLink(places, target).slice(1), to: { link: activeTarget(target) } },
        receiptChange(receipt),
      ],
    };
  };
