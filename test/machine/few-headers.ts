import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { debianHeaders } from './debian.ts';
import { WORK } from './places.ts';
import { mustRun } from './run.ts';
import { settle } from './settle.ts';

/**
 * Takes from headers what no test's module includes: other processors, whole subsystems, and the marks of options, which only a
 * kernel's own build looks at.
 */
const TAKE_AWAY = String.raw`
cd "$0/usr/src"
find ./*/arch -mindepth 1 -maxdepth 1 -type d ! -name x86 -exec rm -r {} +
for name in drm dt-bindings media misc pcmcia rdma scsi soc sound target ufs; do rm -rf ./*/include/"$name"; done
find . -path '*/include/config/*' -empty -delete
`;

/**
 * A third of the files of a Debian kernel's headers, below .kiln/debian, made once. That is another kernel than Debian's of the same
 * release; modules are built for it all the same, and it is sent and unpacked in a third of the time.
 */
export const fewHeaders = async (release: string): Promise<string> => {
  const place = join(WORK, 'debian', `few-headers-${release}`);
  const isThere = await stat(place).then(
    () => true,
    () => false,
  );
  if (isThere) return place;
  const arrival = `${place}.${process.pid}`;
  await rm(arrival, { recursive: true, force: true });
  // Nobody writes to either: they may share their files.
  await mustRun('cp', ['-al', await debianHeaders(release), arrival]);
  await mustRun('sh', ['-euc', TAKE_AWAY, arrival]);
  await settle(arrival, place);
  return place;
};
