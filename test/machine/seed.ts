import { readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { digestOf } from '../../services/core/digest.ts';
import { readBuildScript } from '../../services/storage/build-script.ts';
import { releasesOf } from './debian.ts';
import { fewHeaders } from './few-headers.ts';
import { pinToolchain, startKiln } from './kiln-service.ts';
import { SEED } from './lay-seed.ts';
import { kbuildSource } from './make-source.ts';
import { TOOLCHAIN, WORK } from './places.ts';

/**
 * What a builder's cache holds after it has built for the kernels that most tests build for: their headers unpacked, and what the toolchain
 * answers them. A Kiln that a test starts begins with it, and so need not unpack the same headers for the fortieth time.
 */

/** Makes it once, below `.kiln/test`, and has every Kiln that is started from here on begin with it. */
export const makeSeed = async (): Promise<void> => {
  const releases = (await releasesOf('amd64')).slice(0, 2);
  const { size, mtimeMs } = await stat(TOOLCHAIN.tar);
  const of = digestOf(JSON.stringify([releases, readBuildScript(), size, mtimeMs])).slice(-16);
  const place = join(WORK, 'test', `seed-${of}`);
  if ((await readdir(place).catch(() => [])).length === 0) {
    const data = `${place}.${process.pid}`;
    await rm(data, { recursive: true, force: true });
    const kiln = await startKiln(data, { KILN_LOG_LEVEL: 'warn' });
    try {
      await pinToolchain(kiln);
      const source = await kbuildSource('seed');
      await kiln.json('source', 'push', source, '--name', 'seed', '--version', '1');
      for (const release of releases) {
        await kiln.json('kernel', 'push', await fewHeaders(release));
        await kiln.json('build', 'seed', '-k', release);
      }
    } finally {
      await kiln.stop();
    }
    await rename(join(data, 'builder'), place);
    await rm(data, { recursive: true, force: true });
  }
  process.env[SEED] = place;
};
