import { X509Certificate } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import type { SignerView } from '../../services/core/protocol/fleet.ts';
import { startLyingService } from '../machine/lying-service.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { CLIENT } from '../machine/places.ts';
import { mustRun, run, type Ran } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';
import { END_OF_INPUT, onTerminal, type OnTerminal } from '../machine/terminal.ts';

const idOf = (pem: string): string =>
  new X509Certificate(pem).fingerprint256.replaceAll(':', '').toLowerCase();

describe('a host that is set up', () => {
  const kiln = sharedKiln();
  const setup = (config: string, server: string, ...more: string[]): Promise<Ran> =>
    run(CLIENT, ['setup', server, '--token-file', join(kiln.data, 'admin.token'), ...more], {
      env: { ...process.env, KILN_CONFIG: config },
    });
  const freshConfig = async (): Promise<string> => join(await freshDirectory('setup'), 'config');
  const pinnedBy = (config: string): Promise<string | null> =>
    readFile(join(dirname(config), 'signer.pem'), 'utf8').then(idOf, () => null);
  const own = async (): Promise<SignerView> => {
    const [signer] = await kiln.json<SignerView[]>('signer', 'list');
    if (signer === undefined) throw new Error('there is no signer');
    return signer;
  };

  it('by a script trusts no certificate that nobody vouches for, and says how to compare', async () => {
    const config = await freshConfig();
    const { key } = await own();
    expect(await setup(config, kiln.url)).toMatchObject({
      status: 6,
      stderr: expect.stringMatching(
        new RegExp(`SHA-256 ${key}; nothing was pinned.*kiln signer list.*--fingerprint ${key}`),
      ),
    });
    expect(await pinnedBy(config)).toBeNull();
    const spelled = key.toUpperCase().replaceAll(/..(?!$)/g, '$&:');
    expect(await setup(config, kiln.url, '--fingerprint', spelled)).toMatchObject({ status: 0 });
    expect(await pinnedBy(config)).toBe(key);
    // The same again is no question.
    expect(await setup(config, kiln.url)).toMatchObject({ status: 0 });
  });

  it('by a person at a terminal pins what that person says is the same, and nothing else', async () => {
    const { key } = await own();
    const answered = async (answer: string): Promise<OnTerminal & { pinned: string | null }> => {
      const config = await freshConfig();
      const words = ['setup', kiln.url, '--token-file', join(kiln.data, 'admin.token')];
      const env = { ...process.env, KILN_CONFIG: config };
      const ran = await onTerminal([CLIENT, ...words], env, /\(yes\/no\)/, answer);
      return { ...ran, pinned: await pinnedBy(config) };
    };
    for (const answer of ['no\r', '\r', 'y\r', END_OF_INPUT])
      expect({ answer, ...(await answered(answer)) }).toMatchObject({
        status: 6,
        shown: expect.stringMatching(/SHA-256[^]*\(yes\/no\)[^]*nothing was pinned/),
        pinned: null,
      });
    expect(await answered('\u0003')).toMatchObject({ status: 130, pinned: null });
    expect(await answered('yes\r')).toMatchObject({
      status: 0,
      shown: expect.stringContaining(key),
      pinned: key,
    });
  });

  it('by a server with a key of its own does not believe it, the first time or later', async () => {
    const directory = await freshDirectory('forged');
    const [keyFile, pem] = [join(directory, 'key'), join(directory, 'pem')];
    const key2048 = ['-newkey', 'rsa:2048', '-nodes', '-keyout', keyFile];
    await mustRun('openssl', ['req', '-x509', '-subj', '/CN=kiln', ...key2048, '-out', pem]);
    const forged = await readFile(pem, 'utf8');
    const lying = await startLyingService(kiln.url);
    lying.lie({
      answers: (path, json) =>
        path === '/v1/signers' ? { items: [{ key: '0', certificate: forged }], next: null } : json,
    });
    const { key } = await own();
    const config = await freshConfig();
    expect(await setup(config, lying.url, '--fingerprint', key)).toMatchObject({
      status: 6,
      stderr: expect.stringMatching(new RegExp(`not ${key}: this is another service`)),
    });
    expect(await pinnedBy(config)).toBeNull();
    expect(await setup(config, kiln.url, '--trust-first-use')).toMatchObject({ status: 0 });
    for (const more of [['--trust-first-use'], ['--certificate', pem], []])
      expect(await setup(config, lying.url, ...more)).toMatchObject({
        status: 2,
        stderr: expect.stringMatching(
          new RegExp(
            `pinned, with SHA-256 ${key}, than .*nothing was changed.*--replace-certificate`,
          ),
        ),
      });
    expect(await pinnedBy(config)).toBe(key);
    const replace = ['--replace-certificate', '--certificate', pem];
    expect(await setup(config, kiln.url, ...replace)).toMatchObject({ status: 0 });
    expect(await pinnedBy(config)).toBe(idOf(forged));
    await writeFile(join(dirname(config), 'signer.pem'), 'damaged');
    expect(await setup(config, kiln.url, '--trust-first-use')).toMatchObject({ status: 2 });
    await lying.close();
  });
});
