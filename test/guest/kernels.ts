import { releasesOf } from '../machine/debian.ts';
import type { Guest } from '../machine/guest.ts';

/** Its ext4 dereferences NULL when dpkg unpacks much (Debian’s bug 1154101, mended in 6.1.0-56). */
const CRASHING = '6.1.0-55-amd64';

/** The newest kernel of Debian 12, and the one before it that a guest can live with. */
export const twoReleases = async (): Promise<{
  readonly older: string;
  readonly newer: string;
}> => {
  const [newer = '', ...others] = await releasesOf('amd64');
  return { older: others.find((each) => each !== CRASHING) ?? '', newer };
};

/** Names and sizes of a kernel's files in a guest, and the digests of its indexes. */
export const modulesOf = (guest: Guest, release: string): Promise<string> =>
  guest.mustRun(
    `cd /lib/modules/${release} && find . -printf '%p %s\\n' | grep -v '^\\./modules\\.\\|^\\. ' | LC_ALL=C sort && sha256sum modules.dep modules.alias modules.symbols`,
  );
