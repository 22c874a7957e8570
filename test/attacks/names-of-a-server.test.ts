import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { BuildTicket } from '../../services/core/protocol/build.ts';
import type { SignerView } from '../../services/core/protocol/fleet.ts';
import { startLyingService, type LyingService } from '../machine/lying-service.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { CLIENT } from '../machine/places.ts';
import { run, type Ran } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';

/** A hostile server's names, and modules that are not what was signed, when a build is fetched to a directory. */

const kiln = sharedKiln();
let lying: LyingService;
let certificate: string;

const fetchTo = (directory: string, ...args: string[]): Promise<Ran> =>
  run(
    CLIENT,
    ['build', 'v4l2loopback', '-k', kiln.kernel, '-o', directory, '--server', lying.url, ...args],
    {
      env: {
        ...process.env,
        KILN_TOKEN_FILE: join(kiln.data, 'admin.token'),
        KILN_CONFIG: '/nowhere',
      },
    },
  );

/** Has the ticket of a build changed on its way. */
const change = (act: (ticket: BuildTicket) => void): void =>
  lying.lie({
    answers: (path, json: BuildTicket) => {
      if (path === '/v1/builds') act(json);
      return json;
    },
  });

beforeAll(async () => {
  lying = await startLyingService(kiln.url);
  await kiln.json('build', 'v4l2loopback', '-k', kiln.kernel);
  const [signer] = await kiln.json<SignerView[]>('signer', 'list');
  certificate = join(await freshDirectory('signer'), 'signer.pem');
  await writeFile(certificate, signer?.certificate ?? '');
});
afterAll(() => lying.close());

describe('a build fetched from a hostile server', () => {
  it.each(['../outside', '/tmp/outside', 'a/b', '..', '', 'a\u001b[2J', 'a'.repeat(65)])(
    'with a module that is called %j is not understood, and nothing is written',
    async (name) => {
      const place = await freshDirectory('place');
      const directory = join(place, 'modules');
      change(({ build }) => {
        for (const module of build.modules) Object.assign(module, { name });
      });
      expect((await fetchTo(directory)).status).not.toBe(0);
      expect(await readdir(place)).toEqual([]);
    },
  );

  it('with bytes, or words about them, that were not signed is refused where a certificate is pinned', async () => {
    const directory = join(await freshDirectory('place'), 'modules');
    const pinned = ['--certificate', certificate];
    const lies: ((ticket: BuildTicket) => void)[] = [
      ({ build }) => {
        for (const module of build.modules) Object.assign(module, { signed: module.unsigned });
      },
      ({ build }) => Object.assign(build, { signature: { kind: 'unsigned', reason: 'no' } }),
      ({ build }) => Object.assign(build, { attestation: null }),
      ({ build }) => Object.assign(build, { inputs: {} }),
    ];
    for (const lie of lies) {
      change(lie);
      expect(await fetchTo(directory, ...pinned)).toMatchObject({ status: 6 });
    }
    expect(await readdir(directory).catch(() => 'not made')).toBe('not made');
    lying.lie(null);
    expect(await fetchTo(directory, ...pinned, '-q')).toMatchObject({ status: 0, stderr: '' });
    expect(await readdir(directory)).toEqual(['v4l2loopback.ko']);
  });

  it('is said not to be verified where none is pinned', async () => {
    lying.lie(null);
    const { status, stderr } = await fetchTo(await freshDirectory('modules'));
    expect({ status, stderr }).toEqual({
      status: 0,
      stderr: expect.stringMatching(/not verified: no certificate is pinned/),
    });
  });
});
