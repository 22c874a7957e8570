import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { debianPackage } from './debian.ts';
import { WORK } from './places.ts';
import { mustRun } from './run.ts';
import { settle } from './settle.ts';

/** Of Debian's package of a kernel: all but the modules, of which a few stay. Its scripts are Debian's own. */
const TAKE_AWAY = String.raw`
dpkg-deb -R "$1" "$0/tree"
cd "$0/tree"
find lib/modules/*/kernel -type f ! -path '*/fs/ext4/*' ! -path '*/drivers/net/dummy.ko' -delete
find lib/modules -type d -empty -delete
rm -f DEBIAN/md5sums
sed -i 's/^Version: .*/&+few/' DEBIAN/control
dpkg-deb --root-owner-group -Zgzip -z1 --build . "$0/package.deb"
cd / && rm -r "$0/tree"
`;

/**
 * Debian's package of a kernel with a handful of its modules, below .kiln/debian, made once: it is unpacked, and an initramfs made of it,
 * in a second. It is newer than Debian's own.
 */
export const fewKernelPackage = async (release: string): Promise<string> => {
  const place = join(WORK, 'debian', `few-kernel-${release}`);
  const isThere = await stat(place).then(
    () => true,
    () => false,
  );
  if (isThere) return join(place, 'package.deb');
  const arrival = `${place}.${process.pid}`;
  await rm(arrival, { recursive: true, force: true });
  await mustRun('mkdir', ['-p', arrival]);
  const whole = await debianPackage(`linux-image-${release}`);
  await mustRun('sh', ['-euc', TAKE_AWAY, arrival, whole]);
  await settle(arrival, place);
  return join(place, 'package.deb');
};
