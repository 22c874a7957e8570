import { lstat, realpath } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { EvaluatedConf } from '../../services/core/source/dkms-evaluation.ts';
import { run } from '../host/programs.ts';
import { DkmsEnd } from './end.ts';

/**
 * Evaluates settings of dkms as dkms does: by bash, on this host. They are the host's own files, and bash runs only what root alone can
 * write: a source that somebody else could change is for the service's sandbox.
 */

/** Variables that a dkms.conf may set (source: `dkms_conf_variables` of dkms 3.2.2). */
export const CONF_VARIABLES = (
  'PACKAGE_NAME PACKAGE_VERSION POST_ADD POST_BUILD POST_INSTALL POST_REMOVE PRE_BUILD PRE_INSTALL BUILD_DEPENDS ' +
  'BUILD_EXCLUSIVE_ARCH BUILD_EXCLUSIVE_CONFIG BUILD_EXCLUSIVE_KERNEL BUILD_EXCLUSIVE_KERNEL_MIN BUILD_EXCLUSIVE_KERNEL_MAX ' +
  'OBSOLETE_BY MAKE MAKE_MATCH PATCH PATCH_MATCH BUILT_MODULE_NAME BUILT_MODULE_LOCATION DEST_MODULE_NAME DEST_MODULE_LOCATION ' +
  'STRIP AUTOINSTALL NO_WEAK_MODULES BUILD_DEPENDS_REBUILD CLEAN REMAKE_INITRD MODULES_CONF MODULES_CONF_OBSOLETES ' +
  'MODULES_CONF_ALIAS_TYPE MODULES_CONF_OBSOLETE_ONLY MODPROBE_ON_INSTALL'
).split(' ');

/** Variables that dkms's own settings may set (source: `dkms_framework_*` of dkms 3.2.2). */
export const FRAMEWORK_VARIABLES =
  'source_tree dkms_tree install_tree autoinstall_all_kernels modprobe_on_install post_transaction'.split(
    ' ',
  );

/**
 * For each file: sourced in a shell of its own, the variables' values read again as assignments, so that one file's functions and
 * settings reach no other. dkms hands a value on through an unquoted `echo`, which makes white space one blank and takes quotes away.
 * At the end NAME NUL INDEX NUL VALUE NUL, and NAME_HOLDS for patterns that fit.
 */
const SCRIPT = String.raw`
variables=$1 arch=$2; shift 2
values_of() {
  ( exec 5>&1 1>/dev/null </dev/null
    variables=($variables)
    . "$1"
    set -f; IFS=$' \t\n'
    for _name in "%{variables[@]}"; do
      declare -n _values=$_name
      for _index in "%{!_values[@]}"; do
        _words=(%{_values[$_index]%$'\r'})
        printf '%s[%s]="%s"\n' "$_name" "$_index" "%{_words[*]}" >&5
      done
      unset -n _values
    done
    for _name in "%{!DKMS_DIRECTIVE@}"; do printf '%s="%s"\n' "%{!_name%%=*}" "%{!_name#*=}" >&5; done
  )
}
has_option() {
  local option
  for option in $1; do
    case $option in
      !*) ! grep -q "^%{option#!}=[ym]" "$kernel_config" || return 1 ;;
      *) grep -q "^$option=[ym]" "$kernel_config" || return 1 ;;
    esac
  done
}
for conf; do
  [ -e "$conf" ] || continue
  assignments=$(values_of "$conf")
  . /dev/stdin <<<"$assignments"
done
for name in $variables; do
  declare -n values=$name
  for index in "%{!values[@]}"; do
    printf '%s\0%s\0%s\0' "$name" "$index" "%{values[$index]}"
    [ -n "%{values[$index]}" ] || continue
    case $name in
      BUILD_EXCLUSIVE_ARCH) [[ $arch =~ %{values[$index]} ]] ;;
      BUILD_EXCLUSIVE_CONFIG) [ ! -e "$kernel_config" ] || has_option "%{values[$index]}" ;;
      *_MATCH | BUILD_EXCLUSIVE_KERNEL) [[ $kernelver =~ %{values[$index]} ]] ;;
      *) false ;;
    esac && printf '%s_HOLDS\0%s\0yes\0' "$name" "$index"
  done
  unset -n values
done
exit 0`.replaceAll('%{', '${');

const LIMIT = 4 * 1024 ** 2;
const SECONDS = 60;
const WORDS = 4000;
const INDEX = /^\d{1,4}$/;

/**
 * The values that files set for some variables, later files over earlier ones; those that are not there are passed over. `provided`:
 * the variables that the files may use. What they print on standard error goes to `warn`. Throws `DkmsEnd` where a file could be
 * changed by somebody else than root, or bash fails.
 */
export const evaluateConfs = async (
  files: readonly string[],
  variables: readonly string[],
  provided: Readonly<Record<string, string>> & { readonly arch: string },
  warn: (text: string) => void,
): Promise<EvaluatedConf> => {
  for (const file of files) await mustBeRoots(file);
  const { arch, ...env } = provided;
  const end = await run(
    'bash',
    ['--norc', '--noprofile', '-c', SCRIPT, 'bash', variables.join(' '), arch, ...files],
    {
      limit: LIMIT,
      seconds: SECONDS,
      words: WORDS,
      env,
    },
  );
  if (end.words !== '') warn(end.words);
  if (end.status !== 0)
    throw new DkmsEnd(8, [`Bad conf file.`, `${files[0] ?? ''} cannot be evaluated by bash.`]);
  const fields = end.stdout.toString('utf8').split('\0');
  const isWhole = fields.pop() === '' && fields.length % 3 === 0;
  const conf = new Map<string, Map<number, string>>();
  for (let at = 0; at + 2 < fields.length; at += 3) {
    const [name = '', index = '', value = ''] = fields.slice(at, at + 3);
    const values = conf.get(name) ?? new Map<number, string>();
    if (!isWhole || !INDEX.test(index))
      throw new DkmsEnd(8, [
        'Bad conf file.',
        `${files[0] ?? ''} printed what bash could not part.`,
      ]);
    values.set(Number(index), value);
    conf.set(name, values);
  }
  return conf;
};

const OTHERS_WRITE = 0o022;

/** Throws where somebody else than root, or than this user, could have written a file that bash is about to run. */
export const mustBeRoots = async (file: string): Promise<void> => {
  const place = await realpath(file).catch(() => null);
  if (place === null) return;
  const me = process.getuid?.() ?? 0;
  for (const each of [place, dirname(place)]) {
    const { uid, mode } = await lstat(each);
    const isOpen = (mode & OTHERS_WRITE) !== 0 && (mode & 0o1000) === 0;
    if ((uid === 0 || uid === me) && !isOpen) continue;
    throw new DkmsEnd(8, [
      'Bad conf file.',
      `${each} could be changed by somebody else than root, and dkms would run it: make it root's (chown root, chmod go-w).`,
    ]);
  }
};
