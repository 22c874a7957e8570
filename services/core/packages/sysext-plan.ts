import { digestOf, hexOf } from '../digest.ts';
import type { Arch } from '../arch.ts';
import { contentOf, mustBeModules, provenanceFile, settingsIn } from './contents.ts';
import { debVersion, modulesPackage } from './names.ts';
import type { PackagePlan, PlannedFile } from './plan.ts';
import type { ModulesSubject, PackageSubject } from './subject.ts';

/**
 * An image that systemd-sysext merges over `/usr` of a host that nothing else can be written to: the modules of one source for one kernel,
 * with all that they need besides (sources: systemd-sysext(8), os-release(5), systemd.unit(5)).
 */

/** What systemd calls an architecture (`ConditionArchitecture=`). */
const ARCHITECTURE: Readonly<Record<Arch, string>> = {
  x86_64: 'x86-64',
  i686: 'x86',
  aarch64: 'arm64',
  armv7l: 'arm',
  ppc64le: 'ppc64-le',
  s390x: 's390x',
  riscv64: 'riscv64',
};

const LOAD_SCRIPT = `#!/bin/sh
# Loads modules of an image that is merged over /usr. The index of the kernel's modules knows nothing of them and cannot be written to:
# one that does is made below /run, of links to all that is there.
#
# arguments  RELEASE MODULE…
# exit       0 loaded, or another kernel runs · otherwise depmod's or modprobe's own
set -eu
release=$1
shift
[ "$(uname -r)" = "$release" ] || exit 0
root=$(mktemp -d /run/kiln-modules.XXXXXX)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/usr/lib/modules/$release"
ln -s usr/lib "$root/lib"
for each in "/usr/lib/modules/$release"/*; do
  case \${each##*/} in
    build | source | modules.dep* | modules.alias* | modules.symbols* | modules.softdep | modules.devname | modules.weakdep) ;;
    *) ln -s "$each" "$root/usr/lib/modules/$release/" ;;
  esac
done
depmod -b "$root" "$release"
modprobe -d "$root" -a -- "$@"
`;

/** What is in such an image. Throws `KilnError('conflict')` for all but modules, as it has the rest of them in it, and for too many bytes. */
export const sysextPlan = (subject: PackageSubject): PackagePlan => {
  mustBeModules(subject);
  const name = modulesPackage(subject.source.name, subject.kernel.release);
  return {
    format: 'sysext',
    name,
    version: debVersion(subject),
    arch: ARCHITECTURE[subject.kernel.arch],
    file: `${name}.raw`,
    control: {},
    files: [
      ...contentOf(subject).map(belowUsr),
      ...settingsIn(subject).map(belowUsr),
      provenanceFile(subject, name),
      // It must be called after the image.
      {
        place: `/usr/lib/extension-release.d/extension-release.${name}`,
        content: {
          text: `ID=_any\nARCHITECTURE=${ARCHITECTURE[subject.kernel.arch]}\nEXTENSION_RELOAD_MANAGER=1\n`,
        },
      },
      { place: loadPlace(name), content: { text: LOAD_SCRIPT }, executable: true },
      ...unitsOf(subject, name),
    ],
  };
};

const belowUsr = (file: PlannedFile): PlannedFile => ({ ...file, place: `/usr${file.place}` });

/** What loads the modules when the image has come, and when the host starts. */
const unitsOf = (
  { source, kernel, modules }: ModulesSubject,
  name: string,
): readonly PlannedFile[] => [
  {
    place: `/usr/lib/systemd/system/${unitOf(name)}`,
    content: {
      text: `[Unit]
Description=Kernel modules of ${source.name} for Linux ${kernel.release}

[Service]
Type=oneshot
RemainAfterExit=yes
# What is upheld and fails would be started again for ever. The journal has the reason.
ExecStart=-${loadPlace(name)} ${kernel.release} ${modules.map((module) => module.name).join(' ')}
`,
    },
  },
  {
    place: `/usr/lib/systemd/system/multi-user.target.d/10-${name}.conf`,
    content: { text: `[Unit]\nUpholds=${unitOf(name)}\n` },
  },
];

/** Each image has its own, so that none has to do with what another version of Kiln made. */
const loadPlace = (name: string): string => `/usr/lib/kiln-modules/${name}/load`;

/** A unit's name, of the letters that those have; with a digest where that could be another's, too. */
const unitOf = (name: string): string => {
  const plain = name.replaceAll(/[^A-Za-z0-9:_.-]/g, '-');
  return `${plain}${plain === name ? '' : `-${hexOf(digestOf(name)).slice(0, 8)}`}.service`;
};
