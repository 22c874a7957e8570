import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import type { BuildView } from '../../services/core/protocol/build.ts';
import type { WithdrawalView } from '../../services/core/protocol/withdrawal.ts';
import { dkmsSource, moduleCode } from '../machine/make-source.ts';
import type { Ran } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';
import { makeSmallRoot } from '../machine/small-root.ts';

/** One fingerprint, two modules: nobody knows any more which of them hosts were meant to have. */
describe('a build that gives other bytes the second time', () => {
  const kiln = sharedKiln();

  it('is kept from hosts, and tells so, until an admin puts it back', async () => {
    const salt = 'static const long long __attribute__((used)) salt = $RANDOM$RANDOM$RANDOM;';
    const source = await dkmsSource(
      'salted',
      `MAKE="echo '${salt}' >> salted.c; make -C $kernel_source_dir M=$dkms_tree/salted/1.0/build"`,
      { 'salted.c': moduleCode() },
    );
    const { id, modules } = await kiln.json<BuildView>('build', source, '-k', kiln.kernel);
    const rebuilt = await kiln.kiln('rebuild', id, '-q');
    expect([rebuilt.status, rebuilt.stderr]).toEqual([
      6,
      expect.stringMatching(
        new RegExp(`other bytes: salted\\.ko.*withdrawn.*\\(kiln withdraw build ${id} --undo\\)`),
      ),
    ]);

    const reason = /^the build \w+ was withdrawn: rebuild-\S+ gave other bytes of salted\.ko$/;
    expect((await kiln.json<BuildView>('show', id)).withdrawn).toMatch(reason);
    expect((await kiln.kiln('list')).stdout).toMatch(new RegExp(`${id}.*withdrawn`));
    const root = await makeSmallRoot(kiln.release);
    const pinned = ['--certificate', join(kiln.data, 'signing.crt')];
    const install = (...more: string[]): Promise<Ran> =>
      kiln.kiln('install', 'salted', '-k', kiln.release, '--root', root, ...pinned, '-q', ...more);
    const refused = await install();
    expect(refused.status).not.toBe(0);
    expect(refused.stderr).toMatch(/gave other bytes of salted\.ko/);
    const response = await fetch(`${kiln.url}/v1/artifacts/${modules[0]?.unsigned}`, {
      headers: { Authorization: `Bearer ${await kiln.adminToken()}` },
    });
    expect(response.ok).toBe(false);

    const left = await kiln.json<WithdrawalView[]>('withdraw', 'build', id, '--undo');
    expect(left.some((each) => each.id === id)).toBe(false);
    expect((await kiln.json<BuildView>('show', id)).withdrawn).toBeNull();
    // The host has heard of it, and does not forget that by itself.
    expect((await install()).stderr).toMatch(/--allow-withdrawn/);
    const installed = await install('--allow-withdrawn');
    expect([installed.status, installed.stderr]).toEqual([0, expect.any(String)]);
  });
});
