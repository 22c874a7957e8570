import { join } from 'node:path';
import { headerMounts } from './header-mounts.ts';
import { mustRun } from './run.ts';

/** A source and the kernel it is for, as files. */
export interface BareMake {
  /** The source's directory. */
  readonly source: string;
  readonly name: string;
  readonly version: string;
  readonly release: string;
  /** The kernel's headers as they stand below `/` when installed. */
  readonly headers: string;
  /** Where its build tree is, from `/`, if not where Debian has it. */
  readonly home?: string;
  /** The Docker image to make it in. */
  readonly image: string;
}

/** In the container: the source where DKMS would build it, and nothing but make and strip. */
const SCRIPT = String.raw`
build=/var/lib/dkms/$1/$2/build
mkdir -p "/lib/modules/$3" "/var/lib/dkms/$1/$2"
[ -e "/lib/modules/$3/build" ] || ln -s "$4" "/lib/modules/$3/build"
cp -a /given "$build"
make -C "/lib/modules/$3/build" M="$build" modules >&2
strip -g "$build"/*.ko
cd "$build"
sha256sum *.ko
`;

/** What plain `make` and `strip -g` leave of a source: the SHA-256 of each module, by its name. */
export const bareMake = async (made: BareMake): Promise<Readonly<Record<string, string>>> => {
  const home = made.home ?? `/usr/src/linux-headers-${made.release}`;
  const own = home.startsWith('/usr/src/') ? [] : [`${join(made.headers, home)}:${home}:ro`];
  const mounts = [`${made.source}:/given:ro`, ...own, ...(await headerMounts(made.headers))];
  const stdout = await mustRun('docker', [
    'run',
    '--rm',
    '--network=none',
    ...mounts.map((mount) => `--volume=${mount}`),
    made.image,
    'bash',
    '-euc',
    SCRIPT,
    'make',
    made.name,
    made.version,
    made.release,
    home,
  ]);
  return Object.fromEntries(
    [...stdout.matchAll(/^([0-9a-f]{64}) [ *](\S+)\.ko$/gm)].map(([, digest = '', name = '']) => [
      name,
      `sha256:${digest}`,
    ]),
  );
};
