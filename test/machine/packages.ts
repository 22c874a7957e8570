import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CHECKOUT, CLIENT, WORK } from './places.ts';
import { mustRun } from './run.ts';

/** The packages that a fleet installs, as files. */
export interface OurPackages {
  readonly kiln: string;
  readonly dkms: string;
}

/** Kiln's .deb packages, made once for what the checkout has now; whoever wants the same meanwhile waits. */
export const ourPackages = async (): Promise<OurPackages> => {
  const hash = createHash('sha256').update(await readFile(CLIENT));
  const files = await readdir(join(CHECKOUT, 'client/package'), {
    recursive: true,
    withFileTypes: true,
  });
  for (const file of files.filter((each) => each.isFile()))
    hash.update(file.name).update(await readFile(join(file.parentPath, file.name)));
  const place = join(WORK, 'test', `packages-${hash.digest('hex').slice(0, 16)}`);
  await mkdir(join(WORK, 'test'), { recursive: true });
  const script = '[ -e "$0" ] || { rm -rf "$0.part" && "$1" "$0.part" && mv "$0.part" "$0"; }';
  const make = join(CHECKOUT, 'client/package/make-package');
  await mustRun('flock', [`${place}.lock`, 'sh', '-c', script, place, make]);
  const names = await readdir(place);
  const named = (start: string): string =>
    join(
      place,
      names.find((name) => name.startsWith(start) && name.endsWith('.deb')) ?? `no ${start}`,
    );
  return { kiln: named('kiln_'), dkms: named('kiln-dkms_') };
};
