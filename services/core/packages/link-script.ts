/** Links modules that track the kABI on other kernels of a host, as part of `kiln-modules-common` (a script for POSIX sh). */
export const LINK = `#!/bin/sh
# Links modules that track the kABI on each other kernel that is proven to take them, and removes the links that do not hold any more. The
# proof: the kernel is of the same flavour, wants the same vermagic but for the release, and exports all symbols that they need with the
# same CRCs, on terms (GPL, namespaces) that they fulfil.
#
# needs   /usr/lib/kiln-modules/kabi/PACKAGE: "release RELEASE", "modules updates/NAME", the flavour, the vermagic, whether all modules are
#         under the GPL, the namespaces that they import, then "CRC SYMBOL" for each symbol
# makes   /lib/modules/KERNEL/weak-updates/NAME/x.ko, which leads to ../../../RELEASE/updates/NAME/x.ko; of links of others, those to
#         modules that have gone are removed (SUSE's weak-modules2 makes such)
# stdout  the kernels whose links changed, one a line
# exit    0 all well · 1 some link could not be made or removed, or a kernel's symbols could not be read: its links stay as they are
set -u
lists=/usr/lib/kiln-modules/kabi
status=0
newline='
'
exports=$(mktemp) || exit
trap 'rm -f "$exports"' EXIT

# All that a kernel exports: CRC, symbol, module, kind, namespace. Nothing where it does not say.
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

# What tells kernels of one distribution apart that differ in their configuration: "default", "el9.x86_64+rt".
flavour() { # RELEASE
  echo "$1" | sed -nE \\
    -e 's/^.*[.]([a-z]+[0-9]+[a-z]*)(_[0-9]+)*[.]([A-Za-z0-9_]+([+][A-Za-z0-9_-]+)?)$/\\1.\\3/' -e 't found' \\
    -e 's/^[^-]*-?//' -e ': next' -e 's/^([0-9]|rc[0-9])[^-]*-?//' -e 't next' -e ': found' -e p
}

# What a kernel's own modules say of it, behind its release.
vermagic() { # KERNEL
  module=$(find "/lib/modules/$1/kernel" -name '*.ko*' -type f -print -quit 2>/dev/null)
  [ -z "$module" ] || modinfo -F vermagic "$module" | sed -E 's/^[^ ]* *//; s/ *$//'
}

# The lists that a kernel agrees with.
agreeing() { # KERNEL
  symbols "$1" >"$exports" || return
  awk -v flavour="$(flavour "$1")" -v vermagic="$(vermagic "$1")" '
    !isKernel {
      value = substr($0, length($1) + 2)
      if ($1 ~ /^0x/) { needed[FILENAME, $2] = $1; left[FILENAME]++ }
      else if ($1 == "gpl") isGpl[FILENAME] = value == "yes"
      else if ($1 == "namespaces") namespaces[FILENAME] = " " value " "
      else if ($1 == "flavour" && value != flavour || $1 == "vermagic" && value != vermagic) differs[FILENAME] = 1
      next
    }
    {
      kind = 0
      for (field = 3; field <= NF && !kind; field++) if ($field ~ /^EXPORT_/) kind = field
      # Linux 5.4 and 5.5 had the namespace before the module.
      namespace = !kind ? "" : kind == 5 ? $3 : $(kind + 1)
      isGplOnly = kind && $kind ~ /_GPL/
      for (list in left)
        if ((list, $2) in needed && needed[list, $2] == tolower($1) && (isGpl[list] || !isGplOnly) &&
            (namespace == "" || index(namespaces[list], " " namespace " "))) {
          delete needed[list, $2]
          left[list]--
        }
    }
    END { for (list in left) if (left[list] == 0 && !(list in differs)) print list }
  ' "$lists"/* isKernel=1 FS='\\t' "$exports"
}

# The links that a kernel is to have, as "NAME/x.ko TARGET". Of one NAME, the first package that agrees has them.
wanted() { # KERNEL
  # One that is not whole is about to come, or has gone.
  [ -e "/lib/modules/$1/modules.order" ] || [ -e "/lib/modules/$1/modules.builtin" ] || return 0
  [ -d "$lists" ] || return 0
  agreeing=$(agreeing "$1") || return
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
  if ! wanted=$(wanted "$kernel"); then
    echo "the symbols of kernel $kernel cannot be read; its links to other kernels' modules stay as they are" >&2
    status=1
    continue
  fi
  changed=$(
    find "$links" -path "$links/kiln" -prune -o -xtype l -lname '/lib/modules/*/updates/*' -print -exec rm -f {} + 2>/dev/null
  )
  [ -z "$changed" ] || find "$links" -depth -type d -empty -delete
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
