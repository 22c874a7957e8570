import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { IssuedToken } from '../../services/core/protocol/token.ts';
import { debianHeaders, newestRelease } from '../machine/debian.ts';
import { pinToolchain, startKiln, type KilnService } from '../machine/kiln-service.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { reasonOf } from './reasons.ts';
import { runSuite } from './run-suite.ts';

/** A part of dkms's own tests; all of them are `npm run dkms-suite`. */

let kiln: KilnService;
let release: string;
let token: string;
beforeAll(async () => {
  release = await newestRelease();
  kiln = await startKiln(await freshDirectory('dkms-suite'), { KILN_BUILD_CPUS: '1' });
  await pinToolchain(kiln);
  await kiln.json('kernel', 'push', await debianHeaders(release));
  ({ secret: token } = await kiln.json<IssuedToken>('token', 'create', 'suite', '--role', 'ci'));
});
afterAll(() => kiln.stop());

describe('dkms’s own tests', () => {
  it.each([
    ['of one module’s life', 'basic', 50],
    ['of modules that are replaced', 'replace', 20],
  ])('%s pass', async (_, group, least) => {
    const { passed, misses } = await runSuite({ url: kiln.url, release }, token, 'trixie', group);
    expect(misses.filter((miss) => reasonOf(miss) === null)).toEqual([]);
    expect(passed).toBeGreaterThanOrEqual(least);
  });
});
