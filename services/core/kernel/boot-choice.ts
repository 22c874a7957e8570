/** Which kernel a boot loader is to start by default. */
export type BootChoice =
  /** The kernel that it starts anyway, whose modules are complete. */
  | { readonly kind: 'free'; readonly release: string }
  /** An older kernel, since the one that it would start lacks modules, and why. */
  | {
      readonly kind: 'hold';
      readonly release: string;
      readonly instead: string;
      readonly why: string;
    }
  /** No kernel has all its modules. */
  | { readonly kind: 'helpless'; readonly instead: string; readonly why: string };

/**
 * Chooses the kernel that would be started anyway if its modules are complete, else the newest whose are. `usual` is the kernel that the
 * boot loader starts without guard; `null` means the newest. `incomplete` has the reason for each kernel that lacks modules. `null` where
 * there is no kernel.
 */
export const chooseBoot = (
  kernels: readonly string[],
  incomplete: ReadonlyMap<string, string>,
  usual: string | null,
): BootChoice | null => {
  const newestFirst = [...kernels].sort(compareReleases).toReversed();
  const wanted = newestFirst.find((release) => release === usual) ?? newestFirst[0];
  if (wanted === undefined) return null;
  const why = incomplete.get(wanted);
  if (why === undefined) return { kind: 'free', release: wanted };
  const complete = newestFirst.find((release) => !incomplete.has(release));
  return complete === undefined
    ? { kind: 'helpless', instead: wanted, why }
    : { kind: 'hold', release: complete, instead: wanted, why };
};

/**
 * Orders kernel releases by age, as Debian orders versions: numbers as numbers, `~` before the end, letters before other signs
 * (source: deb-version(7)). Negative where `a` is older.
 */
export const compareReleases = (a: string, b: string): number => {
  const [left, right] = [parts(a), parts(b)];
  for (let at = 0; at < Math.max(left.length, right.length); at += 1) {
    const [x, y] = [left[at] ?? '', right[at] ?? ''];
    // Parts at even places are text, parts at odd places are numbers.
    const order = at % 2 === 0 ? compareWords(x, y) : Number(x || '0') - Number(y || '0');
    if (order !== 0) return order;
  }
  return 0;
};

const parts = (release: string): readonly string[] => release.split(/([0-9]+)/);

const compareWords = (a: string, b: string): number => {
  for (let at = 0; at < Math.max(a.length, b.length); at += 1) {
    const order = weight(a[at]) - weight(b[at]);
    if (order !== 0) return order;
  }
  return 0;
};

const weight = (sign: string | undefined): number => {
  if (sign === undefined) return 0;
  if (sign === '~') return -1;
  return /[A-Za-z]/.test(sign) ? sign.charCodeAt(0) : sign.charCodeAt(0) + 256;
};
