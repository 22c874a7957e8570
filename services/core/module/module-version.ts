/** How the version of a module stands to that of another, as DKMS tells them apart. */
export type VersionOrder = 'newer' | 'same' | 'older' | 'unknown';

/** A module's `.modinfo`, as `readModuleFile` gives it. */
type Modinfo = readonly (readonly [key: string, value: string])[];

/**
 * How an in-tree module stands to ours, by their `version` alone, as DKMS has it before it installs one: `same` also where neither has a
 * version, `unknown` where one of them has none (source: dkms(8), `compare_module_version`, `check_version_sanity`; its `[[ a > b ]]`
 * in the C locale).
 */
export const compareModuleVersions = (inTree: Modinfo, ours: Modinfo): VersionOrder => {
  const theirs = versionOf(inTree);
  const mine = versionOf(ours);
  if (theirs === mine) return 'same';
  if (theirs === '' || mine === '') return 'unknown';
  return Buffer.compare(sortable(theirs), sortable(mine)) > 0 ? 'newer' : 'older';
};

/** Whether DKMS leaves the kernel's own module in use rather than ours. */
export const isKeptInTree = (order: VersionOrder): boolean => order === 'newer' || order === 'same';

/** The first word of the last `version` there is, as bash's `read -a` parts the lines of modinfo(8): a backslash frees what follows it. */
const versionOf = (modinfo: Modinfo): string => {
  const value = modinfo.findLast(([key]) => key === 'version')?.[1] ?? '';
  const word = /^[ \t]*((?:\\.|[^ \t\n\\])*)/.exec(value)?.[1] ?? '';
  return word.replaceAll(/\\(.)/g, '$1');
};

/** Every number padded to three digits, so that it compares as a string (source: dkms(8), `VER`). */
const sortable = (version: string): Buffer =>
  Buffer.from(version.replaceAll(/[0-9]+/g, (number) => number.padStart(3, '0')));
