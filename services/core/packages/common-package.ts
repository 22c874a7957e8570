import { LINK } from './link-script.ts';
import type { PlannedFile } from './plan.ts';

/** `kiln-modules-common`: the one package whose scripts run on hosts. Packages of modules have none. */

/** What dpkg calls once for all packages of modules that came or went in one run, as its trigger. */
const UPDATE = `#!/bin/sh
# Makes the module index, and the initramfs where there is one, anew for every kernel whose modules below updates/, or whose links to
# other kernels' modules, have changed.
# Packages of modules have no scripts of their own: dpkg, or rpm, calls this once when all of them are there.
set -u
state=/var/lib/kiln-modules
newline='
'
mkdir -p "$state" || exit
status=0
linked=$(/usr/lib/kiln-modules/link) || status=1

# Whether modules came or went after an image was made: the kernel's own package may have made it in the same run. Package managers keep the
# times that files had; when they came shows in ctime. Links that changed did so just now.
is_older() { # IMAGE MODULES
  case "$newline$linked$newline" in *"$newline\${2##*/}$newline"*) return 0 ;; esac
  [ ! -d "$2/updates" ] || [ -n "$(find -L "$2/updates" "$2/weak-updates" -cnewer "$1" 2>/dev/null)" ]
}

# What there is of modules, and behind links, so that another of the same name shows.
modules_in() { # MODULES
  (
    cd "$1" || exit
    find updates -type f -printf '%p %s %T@ %i\\n'
    find weak-updates -type l -lname '../../../*/updates/*' -exec stat -L -c '%n %s %Y %i' {} +
  ) 2>/dev/null | sort
}

make_initramfs() { # RELEASE MODULES
  image=/boot/initrd.img-$1
  if [ -e "$image" ]; then
    is_older "$image" "$2" || return 0
    if command -v update-initramfs >/dev/null; then
      update-initramfs -u -k "$1"
    elif [ -x /etc/kernel/postinst.d/dracut ]; then
      /etc/kernel/postinst.d/dracut "$1" "/boot/vmlinuz-$1"
    elif [ -x /etc/kernel/postinst.d/tiny-initramfs ]; then
      /etc/kernel/postinst.d/tiny-initramfs "$1" "/boot/vmlinuz-$1"
    fi
    return
  fi
  command -v dracut >/dev/null || return 0
  for image in "/boot/initramfs-$1.img" "/boot/initrd-$1"; do
    [ -e "$image" ] && is_older "$image" "$2" || continue
    dracut --force "$image" "$1" || return
  done
}

for modules in /lib/modules/*; do
  release=\${modules##*/}
  [ -d "$modules" ] || continue
  now=$(modules_in "$modules")
  before=$(cat "$state/$release" 2>/dev/null)
  [ "$now" != "$before" ] || continue
  # A kernel that is not whole: its package is about to come, and makes both itself, or has gone.
  if [ -e "$modules/modules.order" ] || [ -e "$modules/modules.builtin" ]; then
    # What fails for one kernel is tried again the next time, and keeps no other back.
    depmod "$release" && make_initramfs "$release" "$modules" || { status=1; continue; }
  elif [ -z "$now" ]; then
    # Nothing but the index of what was there.
    rm -f "$modules"/modules.*
    rmdir --ignore-fail-on-non-empty "$modules" 2>/dev/null
  fi
  if [ -n "$now" ]; then printf '%s\\n' "$now" >"$state/$release"; else rm -f "$state/$release"; fi
done
for kept in "$state"/*; do
  [ ! -f "$kept" ] || [ -d "/lib/modules/\${kept##*/}" ] || rm -f "$kept"
done
exit $status
`;

/** Where that is. */
export const UPDATE_SCRIPT = '/usr/lib/kiln-modules/update';

export const COMMON_FILES: readonly PlannedFile[] = [
  { place: UPDATE_SCRIPT, content: { text: UPDATE }, executable: true },
  { place: '/usr/lib/kiln-modules/link', content: { text: LINK }, executable: true },
];

/** The scripts of the .deb. The trigger is dpkg's own on files: it has no need of anything in the packages of modules. */
export const COMMON_DEB_CONTROL: Readonly<Record<string, string>> = {
  triggers: 'interest-noawait /lib/modules\ninterest-noawait /usr/lib/modules\n',
  postinst: `#!/bin/sh
set -e
case $1 in
  configure | triggered) ${UPDATE_SCRIPT} ;;
esac
`,
  // A trigger does not outlive its package: what goes in the same run has gone by now.
  prerm: `#!/bin/sh
set -e
if [ "$1" = remove ]; then ${UPDATE_SCRIPT}; fi
`,
  postrm: `#!/bin/sh
set -e
if [ "$1" = purge ]; then rm -rf /var/lib/kiln-modules; fi
`,
};
