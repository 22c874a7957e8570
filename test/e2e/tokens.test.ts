import { describe, expect, it } from '@jest/globals';
import type { BuildView } from '../../services/core/protocol/build.ts';
import type { IssuedToken } from '../../services/core/protocol/token.ts';
import { kbuildSource } from '../machine/make-source.ts';
import { mustRun, run } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';

describe('a token', () => {
  const kiln = sharedKiln();
  const issue = (role: string, name = `test-${role}`): Promise<IssuedToken> =>
    kiln.json('token', 'create', name, '--role', role);

  it('is needed, and a wrong one is no better than none', async () => {
    expect(await kiln.kilnAs(null, 'list')).toMatchObject({
      status: 4,
      stderr: expect.stringMatching(/needs a token/),
    });
    expect(await kiln.kilnAs('kiln_admin_wrong', 'list')).toMatchObject({
      status: 4,
      stderr: expect.stringMatching(/unknown, expired or revoked/),
    });
  });

  it('lets its role do no more than it may', async () => {
    const { secret } = await issue('client');
    expect((await kiln.kilnAs(secret, 'list')).status).toBe(0);
    for (const args of [
      ['token', 'list'],
      ['token', 'create', 'mine', '--role', 'admin'],
      ['toolchain', 'push', '/etc/hostname', '--name', 'x'],
    ]) {
      expect(await kiln.kilnAs(secret, ...args)).toMatchObject({
        status: 4,
        stderr: expect.stringMatching(/needs a token with the role admin; this one’s is client/),
      });
    }
  });

  it('does not take away what was built, by calling it a source', async () => {
    const { secret } = await issue('client', 'vandal');
    const { modules, log } = await kiln.json<BuildView>(
      'build',
      'v4l2loopback',
      '-k',
      kiln.release,
    );
    for (const blob of [modules[0]?.signed, log]) {
      // To who may not read it, it is not there; to who may, it is no source.
      for (const [token, status] of [
        [secret, 404],
        [await kiln.adminToken(), 422],
      ] as const)
        for (const path of ['sources', 'kernels']) {
          const response = await fetch(`${kiln.url}/v1/${path}`, {
            method: 'POST',
            headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' },
            body: JSON.stringify({ blob }),
          });
          expect(response.status).toBe(status);
        }
      const there = await fetch(`${kiln.url}/v1/artifacts/${blob}`, {
        headers: { Authorization: `Bearer ${await kiln.adminToken()}` },
      });
      expect(there.status).toBe(200);
    }
  });

  it('ends when it is revoked', async () => {
    const { secret, id } = await issue('client', 'short-lived');
    expect((await kiln.kilnAs(secret, 'list')).status).toBe(0);
    await kiln.json('token', 'revoke', id);
    expect((await kiln.kilnAs(secret, 'list')).status).toBe(4);
  });

  it('is nowhere on the service’s disk but as a hash, and in none of its logs', async () => {
    const { secret } = await issue('ci', 'searched-for');
    const { stdout } = await run('grep', ['-rlF', '--exclude=token-*', secret, kiln.data]);
    expect(stdout).toBe('');
    expect(
      (await mustRun('stat', ['-c', '%a', `${kiln.data}/admin.token`, `${kiln.data}/signing.pem`]))
        .split('\n')
        .slice(0, 2),
    ).toEqual(['600', '600']);
  });

  it('of a client gets its source built, but not signed, and says why; an admin’s push of the same bytes gets it signed without a rebuild', async () => {
    const { secret } = await issue('client', 'unsigned');
    const source = await kbuildSource('trusted');
    const args = [
      'build',
      source,
      '-k',
      kiln.kernel,
      '--name',
      'trusted',
      '--version',
      '1',
      '--json',
      '-q',
    ];
    const mine = JSON.parse((await kiln.kilnAs(secret, ...args)).stdout) as BuildView;
    expect(mine).toMatchObject({
      state: 'succeeded',
      signature: {
        kind: 'unsigned',
        reason:
          'the source was neither pushed by ci or an admin nor verified from a distribution’s archive',
      },
    });
    expect(mine.modules[0]?.signed).toBeNull();
    expect((await kiln.kilnAs(secret, 'source', 'list')).stdout).not.toMatch(/trusted/);

    const { secret: ci } = await issue('ci');
    const theirs = JSON.parse((await kiln.kilnAs(ci, ...args)).stdout) as BuildView;
    expect(theirs).toMatchObject({
      id: mine.id,
      attempt: mine.attempt,
      startedAt: mine.startedAt,
      signature: { kind: 'signed' },
    });
    expect(theirs.modules[0]).toMatchObject({
      unsigned: mine.modules[0]?.unsigned,
      signed: expect.stringMatching(/^sha256:/),
    });
  });
});
