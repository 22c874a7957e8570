import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { BuildView } from '../../services/core/protocol/build.ts';
import { fewHeaders } from '../machine/few-headers.ts';
import { pinToolchain, startKiln, type KilnService } from '../machine/kiln-service.ts';
import { dkmsSource, freshDirectory } from '../machine/make-source.ts';
import { CLIENT } from '../machine/places.ts';
import { run, type Ran } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';
import { makeSmallRoot } from '../machine/small-root.ts';

/** The service's key is changed on purpose: what a host is told helps, word for word. */

const { release } = sharedKiln();

describe('a host after a change of the service’s key', () => {
  let data: string;
  let service: KilnService;
  let config: string;
  let root: string;
  let before: string;

  const client = (...args: string[]): Promise<Ran> =>
    run(CLIENT, args, { env: { PATH: process.env['PATH'], KILN_CONFIG: config } });
  const certificate = (): string => join(data, 'signing.crt');
  /** What the host trusts, and where; as an admin's tools write it. */
  const trust = (pinned: string): Promise<void> =>
    writeFile(
      config,
      `server = ${service.url}\ntoken-file = ${join(data, 'admin.token')}\ncertificate = ${pinned}\n`,
    );
  /** The command in an advice. */
  const advised = (words: string, pattern: RegExp): readonly string[] =>
    (pattern.exec(words)?.[0] ?? 'kiln none').split(' ').slice(1);

  beforeAll(async () => {
    data = await freshDirectory('key');
    config = join(await freshDirectory('config'), 'config');
    root = await makeSmallRoot(release);
    service = await startKiln(data, { KILN_LOG_LEVEL: 'warn' });
    await pinToolchain(service);
    await service.json('kernel', 'push', await fewHeaders(release));
    const source = await dkmsSource('keyed', 'MODPROBE_ON_INSTALL=yes\nREMAKE_INITRD=no');
    await service.json('source', 'push', source);
    before = join(await freshDirectory('before'), 'signer.pem');
    await writeFile(before, await readFile(certificate()));
    await trust(before);
  });
  afterAll(() => service.stop());

  it('installs what it trusts, and is told what the source asks for, and what does it', async () => {
    expect(await client('install', 'keyed', '-k', release, '--root', root)).toMatchObject({
      status: 0,
      stderr: expect.stringMatching(
        /keyed asks to be loaded .*\(MODPROBE_ON_INSTALL\): kiln install --load .*, or modprobe -a keyed$/m,
      ),
    });
    const [build] = await service.json<readonly BuildView[]>('list');
    const log = (await service.kiln('logs', build?.id ?? '')).stdout;
    expect(log).toMatch(/^kiln: dkms.conf sets MODPROBE_ON_INSTALL, which is passed over: /m);
    // What says no asks for nothing.
    expect(log).not.toMatch(/REMAKE_INITRD/);
  });

  it('is told by install which key is new, and the command that pins it', async () => {
    await service.stop();
    for (const name of ['signing.pem', 'signing.crt']) await rm(join(data, name));
    service = await startKiln(data, { KILN_LOG_LEVEL: 'warn' });
    await trust(before);
    const { status, stderr } = await client(
      'install',
      'keyed',
      '-k',
      release,
      '--root',
      root,
      '-q',
    );
    expect(status).toBe(6);
    const shown = ['x509', '-in', certificate(), '-noout', '-fingerprint', '-sha256'];
    const { stdout } = await run('openssl', shown);
    const id = stdout.split('=')[1]?.trim().replaceAll(':', '').toLowerCase() ?? '';
    expect(stderr).toContain(
      `the service signs with SHA-256 ${id}, it says; where the admin says the same`,
    );
    const command = advised(
      stderr,
      /kiln setup \S+ --replace-certificate --fingerprint [0-9a-f]{64}/,
    );
    expect(command).toEqual(['setup', service.url, '--replace-certificate', '--fingerprint', id]);
  });

  it('is told by verify what to install again once the new key is pinned, and that helps', async () => {
    // What was installed is still what the old key signed.
    expect(await client('verify', '--root', root)).toMatchObject({ status: 0 });
    await trust(certificate());
    const { status, stdout, stderr } = await client('verify', '--root', root);
    expect(status).toBe(6);
    expect(stdout).toMatch(/keyed was installed when another key .* was pinned than now/);
    const command = advised(stderr, /kiln install keyed -k \S+/);
    expect(await client(...command, '--root', root, '-q')).toMatchObject({ status: 0 });
    expect(await client('verify', '--root', root)).toMatchObject({ status: 0 });
  });
});
