import { describe, expect, it } from '@jest/globals';
import type { BuildView } from '../../services/core/protocol/build.ts';
import type { IssuedToken } from '../../services/core/protocol/token.ts';
import type { SourceView } from '../../services/core/protocol/source.ts';
import type { WithdrawalView } from '../../services/core/protocol/withdrawal.ts';
import { kbuildSource, moduleCode } from '../machine/make-source.ts';
import { sharedKiln } from '../machine/shared.ts';

describe('one token', () => {
  const kiln = sharedKiln();
  const issue = (name: string, ...more: string[]): Promise<IssuedToken> =>
    kiln.json('token', 'create', name, '--role', 'ci', ...more);
  const push = async ({ secret }: { secret: string }, name: string, version: string) => {
    const source = await kbuildSource('tiny', moduleCode(`/* ${name} ${version} */`));
    const args = ['source', 'push', source, '--name', name, '--version', version];
    return kiln.kilnAs(secret, ...args);
  };

  it('of ci cannot give the fleet its own next version of a module that another one publishes', async () => {
    const [team, thief] = [await issue('team'), await issue('thief')];
    expect((await push(team, 'theirs', '1.0')).status).toBe(0);
    expect(await push(thief, 'theirs', '1.1')).toMatchObject({
      status: 4,
      stderr: expect.stringMatching(
        new RegExp(
          `the name theirs belongs to the token team \\(${team.id.slice(0, 8)}\\);.* \\(kiln source give theirs ${thief.id}\\)`,
        ),
      ),
    });
    expect((await push(team, 'theirs', '1.1')).status).toBe(0);
    const sources = await kiln.json<SourceView[]>('source', 'list');
    const versions = sources.filter(({ name }) => name === 'theirs').map((each) => each.version);
    expect(versions.sort()).toEqual(['1.0', '1.1']);
    const { stderr } = await kiln.kilnAs(thief.secret, 'source', 'give', 'theirs');
    expect(stderr).toMatch(/needs a token with the role admin/);
    await kiln.json('source', 'give', 'theirs', thief.id);
    expect((await push(thief, 'theirs', '1.2')).status).toBe(0);
    expect((await push(team, 'theirs', '1.3')).stderr).toMatch(/belongs to the token thief/);
  });

  it('publishes only the names that it was given, which nobody else takes', async () => {
    const [acme, other] = [await issue('acme', '--names', 'acme-*,acme'), await issue('other')];
    expect(await push(other, 'acme-net', '1.0')).toMatchObject({
      status: 4,
      stderr: expect.stringMatching(/the name acme-net belongs to the token acme/),
    });
    expect(await push(acme, 'wifi', '1.0')).toMatchObject({
      status: 4,
      stderr: expect.stringMatching(/may publish only acme-\*, acme; .* the name wifi/),
    });
    expect((await push(acme, 'acme-net', '1.0')).status).toBe(0);
    await kiln.json('token', 'revoke', acme.id);
    // Its patterns end with it; what it has published is still its own.
    expect((await push(other, 'acme-disk', '1.0')).status).toBe(0);
    expect((await push(other, 'acme-net', '1.1')).status).toBe(4);
  });

  it('does not make an old version the newest by pushing it later', async () => {
    const team = await issue('versions');
    for (const version of ['1.9', '1.10', '1.10~rc1'])
      expect((await push(team, 'numbered', version)).status).toBe(0);
    const { source } = await kiln.json<BuildView>('build', 'numbered', '-k', kiln.kernel);
    expect(source.version).toBe('1.10');
  });

  it('is named by all that it made, and all of that can go with it', async () => {
    const team = await issue('gone');
    expect((await push(team, 'going', '1.0')).status).toBe(0);
    const [source] = (await kiln.json<SourceView[]>('source', 'list')).filter(
      ({ name }) => name === 'going',
    );
    expect(source?.madeBy).toEqual({ id: team.id, name: 'gone' });
    const build = JSON.parse(
      (await kiln.kilnAs(team.secret, 'build', 'going', '-k', kiln.kernel, '--json', '-q')).stdout,
    ) as BuildView;
    expect(build.madeBy.name).toBe('gone');
    expect((await kiln.kiln('show', build.id)).stdout).toMatch(/asked by +gone/);
    await kiln.json('token', 'revoke', team.id, '--withdraw', '--reason', 'its key was lost');
    expect(await kiln.kiln('build', 'going', '-k', kiln.kernel)).toMatchObject({
      status: 6,
      stderr: expect.stringMatching(/the source going\/1\.0 was withdrawn: its key was lost/),
    });
    const artifact = await fetch(`${kiln.url}/v1/artifacts/${build.modules[0]?.signed}`, {
      headers: { Authorization: `Bearer ${await kiln.adminToken()}` },
    });
    expect(artifact.status).toBe(410);
    const withdrawn = await kiln.json<WithdrawalView[]>('withdraw');
    expect(withdrawn.filter(({ name }) => name === 'going/1.0')).toHaveLength(1);
    expect((await kiln.kiln('source', 'list')).stdout).toMatch(/going\/1\.0 .* withdrawn/);
  });
});
