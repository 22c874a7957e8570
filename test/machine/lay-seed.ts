import { cp, mkdir, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { mustRun } from './run.ts';

/** The variable that says where the seed is (`seed.ts`). */
export const SEED = 'KILN_TEST_SEED';

const SEEDED = /^(tree|answers)-/;

/** Lays it into the data directory of a Kiln that has no cache yet. Nobody writes to trees, so that they share their files. */
export const laySeed = async (data: string): Promise<void> => {
  const seed = process.env[SEED];
  const cache = join(data, 'builder');
  const isThere = await stat(cache).then(
    () => true,
    () => false,
  );
  if (seed === undefined || isThere) return;
  await mkdir(join(cache, 'used'), { recursive: true });
  for (const name of await readdir(seed)) {
    if (!SEEDED.test(name)) continue;
    await mustRun('cp', ['-al', join(seed, name), cache]);
    await cp(join(seed, 'used', name), join(cache, 'used', name));
  }
};
