/** Where distributions keep a kernel's headers, by a word of `ID` or `ID_LIKE` in their os-release(5). */
const PACKAGES: readonly (readonly [RegExp, (release: string) => string])[] = [
  [/\b(debian|ubuntu)\b/, (release) => `linux-headers-${release}`],
  [/\b(fedora|rhel|centos)\b/, (release) => `kernel-devel-${release}`],
  [/\b(suse|sles)\b/, (release) => `kernel-${/[a-z]+$/.exec(release)?.[0] ?? 'default'}-devel`],
];

/** The package that has a kernel's headers on a distribution, or `null` where that is not known. */
export const headerPackage = (release: string, distribution: string): string | null =>
  PACKAGES.find(([words]) => words.test(distribution))?.[1](release) ?? null;
