import { readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { errorLines } from '../../services/core/sandbox/compiler-output.ts';
import { debianHeaders, unpackPackages } from '../machine/debian.ts';
import { headerMounts } from '../machine/header-mounts.ts';
import { run } from '../machine/run.ts';
import type { Subject } from './matrix.ts';

/** How one of the two builders fared. */
export interface Fared {
  readonly outcome: 'built' | 'excluded' | 'failed';
  readonly seconds: number;
  /** SHA-256 of each module as it came out: stripped (where the source does not forbid it), unsigned. */
  readonly modules: Readonly<Record<string, string>>;
  /** Where it failed: the lines that say so. */
  readonly errors?: readonly string[];
}

/** DKMS's exit status for a kernel that `BUILD_EXCLUSIVE_*` leaves out. */
const EXCLUDED = 77;

/** In the container: everything stands where Debian's packages put it on a host; the time is `dkms build` alone. */
const SCRIPT = String.raw`
set -u
name=$1 version=$2 release=$3
mkdir -p /lib/modules/$release /var/lib/dkms
ln -s $4 /lib/modules/$release/build
ln -s $5 /lib/modules/$release/source
cp -a /given "/usr/src/$name-$version"
dkms add "$name/$version" >/tmp/log 2>&1
[ -z "$6" ] || export KBUILD_BUILD_TIMESTAMP=$6
begin=$(date +%s%N)
dkms build "$name/$version" -k "$release" >>/tmp/log 2>&1
status=$?
end=$(date +%s%N)
echo "status $status"
echo "milliseconds $(((end - begin) / 1000000))"
[ $status -ne 0 ] || (cd "/var/lib/dkms/$name/$version/$release/x86_64/module" && sha256sum *.ko)
[ $status -eq 0 ] || { cat "/var/lib/dkms/$name/$version/build/make.log" || cat /tmp/log; } >&2
`;

/**
 * Builds a source with Debian's own dkms, as root, in a container of the image. A `timestamp` is `KBUILD_BUILD_TIMESTAMP`, by which Kbuild
 * knows that a reproducible build is wanted: without, it lets pahole write a module's types in the order its threads find them.
 */
export const buildWithDkms = async (
  subject: Subject,
  release: string,
  image: string,
  cpus: number,
  timestamp = '',
): Promise<Fared> => {
  const dkms = await unpackPackages('dkms', ['dkms']);
  const headers = await debianHeaders(release);
  const link = (name: string): Promise<string> =>
    readlink(join(headers, 'lib/modules', release, name));
  const mounts = [
    `${subject.directory}:/given:ro`,
    `${join(dkms, 'usr/sbin/dkms')}:/usr/sbin/dkms:ro`,
    `${join(dkms, 'etc/dkms')}:/etc/dkms:ro`,
    ...(await headerMounts(headers)),
  ];
  const { status, stdout, stderr } = await run('docker', [
    'run',
    '--rm',
    '--network=none',
    `--cpus=${cpus}`,
    ...mounts.map((mount) => `--volume=${mount}`),
    image,
    'bash',
    '-c',
    SCRIPT,
    'dkms',
    subject.name,
    subject.version,
    release,
    await link('build'),
    await link('source'),
    timestamp,
  ]);
  const fact = (name: string): number =>
    Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(stdout)?.[1] ?? NaN);
  const end = fact('status');
  if (Number.isNaN(end)) throw new Error(`the DKMS container ended with ${status}: ${stderr}`);
  const modules = Object.fromEntries(
    [...stdout.matchAll(/^([0-9a-f]{64}) [ *](\S+\.ko)$/gm)].map(([, digest = '', name = '']) => [
      name,
      digest,
    ]),
  );
  const outcome = end === 0 ? 'built' : end === EXCLUDED ? 'excluded' : 'failed';
  const seconds = fact('milliseconds') / 1000;
  return {
    outcome,
    seconds,
    modules,
    ...(outcome === 'failed' ? { errors: tell(stderr) } : {}),
  };
};

/** The lines that say what went wrong, as Kiln tells them from a log: of files that are compiled side by side, any comes first. */
export const tell = (log: string): readonly string[] => errorLines(log, 50);
