import { describe, expect, it } from '@jest/globals';
import type { IssuedToken } from '../../services/core/protocol/token.ts';
import type { MissView } from '../../services/core/protocol/fleet.ts';
import { kbuildSource } from '../machine/make-source.ts';
import { sharedKiln } from '../machine/shared.ts';

/** What hosts asked for and did not get, for the admin who decides what to build next. */

const kiln = sharedKiln();

describe('a miss', () => {
  const misses = (): Promise<MissView[]> => kiln.json<MissView[]>('misses');

  it('is counted with its reason, whoever asked', async () => {
    const { secret } = await kiln.json<IssuedToken>('token', 'create', 'misser');
    for (const times of [1, 2]) {
      expect(
        (await kiln.kilnAs(secret, 'build', 'no-such-source', '-k', kiln.release)).status,
      ).toBe(3);
      expect(await misses()).toContainEqual({
        reason: 'not-found',
        source: 'no-such-source',
        release: kiln.release,
        count: times,
        lastAt: expect.any(Number),
      });
    }
    await kiln.kilnAs(secret, 'build', 'v4l2loopback', '-k', '5.4.0-none');
    expect(await misses()).toContainEqual(
      expect.objectContaining({ source: 'v4l2loopback', release: '5.4.0-none' }),
    );
    expect(await kiln.kilnAs(secret, 'misses')).toMatchObject({
      status: 4,
      stderr: expect.stringMatching(/needs a token with the role admin/),
    });
    expect((await kiln.kiln('misses')).stdout).toMatch(/COUNT +REASON +SOURCE +KERNEL +LAST\n/);
  });

  it('is a build that fails, when it does and whenever it is asked for again; a script hears why', async () => {
    const source = await kbuildSource('missing', '#error no\n');
    const args = ['build', source, '--name', 'missing', '--version', '1', '-k', kiln.kernel];
    for (const count of [1, 2]) {
      const { status, stdout } = await kiln.kiln(...args, '--json', '-q');
      expect(status).toBe(1);
      expect(JSON.parse(stdout)).toMatchObject({
        state: 'failed',
        failure: { code: 'compile-failed' },
        error: { code: 'build-failed', exit: 1 },
      });
      expect(await misses()).toContainEqual({
        reason: 'build-failed',
        source: 'missing/1',
        release: kiln.release,
        count,
        lastAt: expect.any(Number),
      });
    }
  });

  it('keeps no name that can be none', async () => {
    const response = await fetch(`${kiln.url}/v1/builds`, {
      method: 'POST',
      headers: {
        Authorization: `Bearer ${await kiln.adminToken()}`,
        'Content-Type': 'application/json',
      },
      body: JSON.stringify({ source: { name: '<b>\n' }, kernel: { release: '../x' } }),
    });
    expect(response.status).toBe(404);
    expect(await misses()).toContainEqual(
      expect.objectContaining({ reason: 'not-found', source: null, release: null }),
    );
  });
});
