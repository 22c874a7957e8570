/** Links modules that track the kABI on other kernels of a host, as part of `kiln-modules-common` (a script for POSIX sh). */
export const LINK = `#!/bin/sh
# Links modules that track the kABI on each other kernel that has all symbols they need, with the same CRCs, and removes the links that
# do not hold any more. The kernel itself compares the CRCs once more when it loads them.
#
# needs   /usr/lib/kiln-modules/kabi/PACKAGE: "release RELEASE", "modules updates/NAME", then "CRC SYMBOL" for each symbol
# makes   /lib/modules/KERNEL/weak-updates/NAME/x.ko, which leads to ../../../RELEASE/updates/NAME/x.ko; no other link is touched
# stdout  the kernels whose links changed, one a line
# exit    0 all well · 1 some link could not be made, or not be removed
set -u
lists=/usr/lib/kiln-modules/kabi
status=0
newline='
'

# All that a kernel exports: CRC, symbol and more.
symbols() { # KERNEL
  for file in "/lib/modules/$1/symvers" "/boot/symvers-$1"; do
    if [ -f "$file" ]; then
      cat "$file"
    elif [ -f "$file.gz" ]; then
      gzip -dc "$file.gz"
    elif [ -f "$file.xz" ]; then
      xz -dc "$file.xz"
    elif [ -f "$file.zst" ]; then
      zstd -dcq "$file.zst"
    else
      continue
    fi
    return
  done
}

# The lists of which a kernel has all symbols.
agreeing() { # KERNEL
  symbols "$1" | awk '
    !isKernel { if ($1 ~ /^0x/) { needed[FILENAME, $2] = $1; left[FILENAME]++ } next }
    {
      for (list in left)
        if ((list, $2) in needed && needed[list, $2] == tolower($1)) {
          delete needed[list, $2]
          left[list]--
        }
    }
    END { for (list in left) if (left[list] == 0) print list }
  ' "$lists"/* isKernel=1 -
}

# The links that a kernel is to have, as "NAME/x.ko TARGET". Of one NAME, the first package that agrees has them.
wanted() { # KERNEL
  # One that is not whole is about to come, or has gone.
  [ -e "/lib/modules/$1/modules.order" ] || [ -e "/lib/modules/$1/modules.builtin" ] || return 0
  [ -d "$lists" ] || return 0
  agreeing=$(agreeing "$1")
  # weak-updates/kiln has the links of the program kiln.
  taken=' kiln '
  for list in "$lists"/*; do
    case "$newline$agreeing$newline" in *"$newline$list$newline"*) ;; *) continue ;; esac
    { read -r _ release && read -r _ modules; } <"$list" || continue
    name=\${modules#updates/}
    case $taken in *" $name "*) continue ;; esac
    [ "$release" != "$1" ] && [ ! -e "/lib/modules/$1/$modules" ] || continue
    taken="$taken$name "
    for module in "/lib/modules/$release/$modules"/*.ko; do
      [ ! -f "$module" ] || echo "$name/\${module##*/} ../../../$release/$modules/\${module##*/}"
    done
  done
}

made_before() { # DIRECTORY
  find "$1" -path "$1/kiln" -prune -o -type l -lname '../../../*/updates/*' -printf '%P %l\\n' 2>/dev/null
}

for home in /lib/modules/*; do
  [ -d "$home" ] || continue
  kernel=\${home##*/}
  links=$home/weak-updates
  wanted=$(wanted "$kernel")
  changed=
  while read -r link target; do
    [ -n "$link" ] || continue
    case "$newline$wanted$newline" in *"$newline$link $target$newline"*) continue ;; esac
    changed=yes
    rm -f "$links/$link" || status=1
    rmdir "$links/\${link%/*}" "$links" 2>/dev/null
  done <<END
$(made_before "$links")
END
  while read -r link target; do
    if [ -z "$link" ] || [ -e "$links/$link" ] || [ -L "$links/$link" ]; then continue; fi
    changed=yes
    mkdir -p "$links/\${link%/*}" && ln -s "$target" "$links/$link" || status=1
  done <<END
$wanted
END
  [ -z "$changed" ] || echo "$kernel"
done
exit $status
`;
