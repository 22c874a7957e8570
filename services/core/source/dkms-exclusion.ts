import { holds, valueAt, type EvaluatedConf } from './dkms-evaluation.ts';

/** The kernel a `dkms.conf` is read for. */
export interface ConfTarget {
  readonly release: string;
  readonly arch: string;
}

/** A condition of a conf: tells why the kernel does not meet it at an index, or `null` where it does or nothing is asked. */
type Condition = (conf: EvaluatedConf, index: number, target: ConfTarget) => string | null;

const matches =
  (
    directive: 'BUILD_EXCLUSIVE_KERNEL' | 'BUILD_EXCLUSIVE_ARCH' | 'BUILD_EXCLUSIVE_CONFIG',
    fact: (target: ConfTarget) => string,
  ): Condition =>
  (conf, index, target) =>
    holds(conf, directive, index, true)
      ? null
      : `${directive}="${valueAt(conf, directive, index)}" does not match ${fact(target)}`;

const bound =
  (
    directive: 'BUILD_EXCLUSIVE_KERNEL_MIN' | 'BUILD_EXCLUSIVE_KERNEL_MAX' | 'OBSOLETE_BY',
    isOutside: (release: string, limit: string) => boolean,
  ): Condition =>
  (conf, index, { release }) => {
    const limit = valueAt(conf, directive, index);
    if (limit === '' || !isOutside(comparable(release), comparable(limit))) return null;
    return `${directive}="${limit}" leaves out ${release}`;
  };

/** A version as a string that sorts by its numbers, as DKMS compares them: each padded to three digits. */
const comparable = (version: string): string =>
  version.replaceAll(/\d+/g, (digits) => digits.padStart(3, '0'));

/** Where a conf sets no upper bound itself, `OBSOLETE_BY` is one (`read_conf` of dkms 3.4). */
const obsolete: Condition = (conf, index, target) =>
  [...(conf.get('BUILD_EXCLUSIVE_KERNEL_MAX')?.values() ?? [])].some((limit) => limit !== '')
    ? null
    : bound('OBSOLETE_BY', (is, limit) => is > limit)(conf, index, target);

const CONDITIONS: Readonly<Record<string, Condition>> = {
  BUILD_EXCLUSIVE_KERNEL: matches('BUILD_EXCLUSIVE_KERNEL', ({ release }) => release),
  BUILD_EXCLUSIVE_KERNEL_MIN: bound('BUILD_EXCLUSIVE_KERNEL_MIN', (is, limit) => is < limit),
  BUILD_EXCLUSIVE_KERNEL_MAX: bound('BUILD_EXCLUSIVE_KERNEL_MAX', (is, limit) => is > limit),
  OBSOLETE_BY: obsolete,
  BUILD_EXCLUSIVE_CONFIG: matches('BUILD_EXCLUSIVE_CONFIG', () => 'the kernel’s .config'),
  BUILD_EXCLUSIVE_ARCH: matches('BUILD_EXCLUSIVE_ARCH', ({ arch }) => arch),
};

/** Whether a directive is set for modules one by one, by index; one set as a plain variable is for the whole package. */
const isForEach = (conf: EvaluatedConf, directive: string): boolean =>
  [...(conf.get(directive)?.keys() ?? [])].some((index) => index > 0);

/** Why the whole package is excluded for a kernel, or `null`. */
export const packageExclusion = (conf: EvaluatedConf, target: ConfTarget): string | null =>
  firstReason(conf, 0, target, (directive) => !isForEach(conf, directive));

/** Why the module at an index is excluded, where the others may be built; or `null`. */
export const moduleExclusion = (
  conf: EvaluatedConf,
  index: number,
  target: ConfTarget,
): string | null => firstReason(conf, index, target, (directive) => isForEach(conf, directive));

const firstReason = (
  conf: EvaluatedConf,
  index: number,
  target: ConfTarget,
  isAsked: (directive: string) => boolean,
): string | null => {
  for (const [directive, condition] of Object.entries(CONDITIONS)) {
    const reason = isAsked(directive) ? condition(conf, index, target) : null;
    if (reason !== null) return reason;
  }
  return null;
};
