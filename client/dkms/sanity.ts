import { join } from 'node:path';
import { readModuleFile } from '../../services/core/module/module-file.ts';
import { compareModuleVersions } from '../../services/core/module/module-version.ts';
import { readModule, suffixOf } from '../host/kernel-modules.ts';
import type { HostConf } from './conf.ts';
import type { DkmsRun } from './run.ts';
import { builtHome, modulesBelow, moduleIn, type Target } from './tree.ts';

/**
 * Whether a module may be installed beside what the kernel has of its name: nothing newer and nothing the same is replaced without force.
 * Says why not, as dkms does (source: `check_version_sanity` of dkms 3.2.2).
 */
export const mayInstall = async (
  { session }: DkmsRun,
  target: Target,
  { obsoleteBy }: HostConf,
  name: string,
  how: { readonly force: boolean; readonly forceVersion: boolean },
): Promise<boolean> => {
  if (!how.force && obsoleteBy !== '' && isObsolete(target.release, obsoleteBy)) {
    for (const line of [
      '',
      `Module has been obsoleted due to being included in kernel ${obsoleteBy}.`,
      `We will avoid installing for future kernels above ${obsoleteBy}.`,
      'You may override by specifying --force.',
    ])
      session.complain(line);
    return false;
  }
  const found = await modulesBelow(join(session.places.kernels, target.release), name);
  const [there, ...others] = found;
  if (there === undefined || how.forceVersion) return true;
  if (others.length > 0) {
    session.complain(
      `Warning: Cannot do version sanity checking because multiple ${name}.ko${suffixOf(there)} modules were found in kernel ${target.release}.`,
    );
    return true;
  }
  const ours = await moduleIn(join(builtHome(session.places, target), 'module'), name);
  if (ours === null || how.force) return true;
  const [theirs, own] = [await factsOf(there), await factsOf(ours)];
  const order = compareModuleVersions(theirs.modinfo, own.modinfo);
  // A module without a version is older than one with.
  if (order === 'newer' || (order === 'unknown' && own.version === '')) {
    session.complain('');
    for (const line of [
      `Error! Module version ${own.version} for ${name}.ko${suffixOf(there)}`,
      `is not newer than what is already found in kernel ${target.release} (${theirs.version}).`,
      'You may override by specifying --force.',
    ])
      session.complain(line);
    return false;
  }
  if (order !== 'same' || theirs.source !== own.source) return true;
  const isVersioned = own.version !== '' || own.source !== '';
  if (!isVersioned && !theirs.bytes.equals(own.bytes)) return true;
  const which = own.version === '' ? '(unversioned module)' : `at version ${own.version}`;
  session.complain(`Module ${there} already installed ${which}, override by specifying --force`);
  return false;
};

const factsOf = async (path: string) => {
  const bytes = await readModule(path);
  const { modinfo } = readModuleFile(bytes);
  const value = (key: string): string => modinfo.find(([name]) => name === key)?.[1] ?? '';
  return {
    bytes,
    modinfo,
    version: value('version').split(/\s/)[0] ?? '',
    source: value('srcversion'),
  };
};

/** Whether a source is in the kernel itself from some release on. */
const isObsolete = (release: string, since: string): boolean => {
  const [[mine = '', myAbi = ''], [first = '', firstAbi = '']] = [release, since].map((each) =>
    each.split('-'),
  ) as [string[], string[]];
  if (comparable(mine) > comparable(first)) return true;
  return (
    comparable(mine) === comparable(first) &&
    (firstAbi === '' || comparable(myAbi) >= comparable(firstAbi))
  );
};

const comparable = (version: string): string =>
  version.replaceAll(/\d+/g, (digits) => digits.padStart(3, '0'));
