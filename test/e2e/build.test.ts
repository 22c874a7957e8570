import { createHash, verify, X509Certificate } from 'node:crypto';
import { appendFile, chmod, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import { canonicalJson, type Canonical } from '../../services/core/format/canonical-json.ts';
import type { BuildView } from '../../services/core/protocol/build.ts';
import type { IssuedToken } from '../../services/core/protocol/token.ts';
import { containersOf } from '../machine/containers.ts';
import { pinToolchain, startKiln } from '../machine/kiln-service.ts';
import { dkmsSource, freshDirectory, kbuildSource, moduleCode } from '../machine/make-source.ts';
import { CLIENT } from '../machine/places.ts';
import { mustRun, run } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';
import { until } from '../machine/until.ts';

type Built = BuildView & { cached: boolean };
const sha256 = (bytes: Uint8Array | string): string =>
  `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

describe('kiln build', () => {
  const kiln = sharedKiln();

  it('builds Debian’s v4l2loopback with a dkms.conf, signed, and answers the second time without compiling', async () => {
    const output = await freshDirectory('out');
    const first = await kiln.json<Built>('build', 'v4l2loopback', '-k', kiln.release, '-o', output);
    const again = await kiln.json<Built>('build', 'v4l2loopback', '-k', kiln.release);

    expect(first).toMatchObject({
      state: 'succeeded',
      signature: { kind: 'signed', hash: 'sha256' },
    });
    expect(again).toMatchObject({ id: first.id, cached: true });
    const module = await readFile(join(output, 'v4l2loopback.ko'));
    expect(sha256(module)).toBe(first.modules[0]?.signed);
    const modinfo = await mustRun('modinfo', [join(output, 'v4l2loopback.ko')]);
    expect(modinfo).toMatch(new RegExp(`vermagic: +${kiln.release} `));
    expect(modinfo).toContain('Kiln module signing');
  });

  it('shows a fingerprint that anyone can recompute from what it covers', async () => {
    const { id } = await kiln.json<Built>('build', 'v4l2loopback', '-k', kiln.release);
    const build = await kiln.json<BuildView>('show', id);
    expect(sha256(canonicalJson(build.inputs as Canonical))).toBe(build.fingerprint);
    expect(build.inputs).toMatchObject({
      toolchain: kiln.toolchain,
      kernel: { tree: kiln.kernel, release: kiln.release },
      recipe: { from: 'dkms.conf', directory: '/var/lib/dkms/v4l2loopback/0.12.7/build' },
    });
  });

  it('attests what a module was made from, signed by the key that signed the module', async () => {
    const { attestation, fingerprint, modules } = await kiln.json<Built>(
      'build',
      'v4l2loopback',
      '-k',
      kiln.release,
    );
    const response = await fetch(`${kiln.url}/v1/artifacts/${attestation ?? ''}`, {
      headers: { Authorization: `Bearer ${await kiln.adminToken()}` },
    });
    const envelope = (await response.json()) as {
      payloadType: string;
      payload: string;
      signatures: { sig: string }[];
    };
    const payload = Buffer.from(envelope.payload, 'base64');
    const message = Buffer.concat([
      Buffer.from(
        `DSSEv1 ${envelope.payloadType.length} ${envelope.payloadType} ${payload.length} `,
      ),
      payload,
    ]);
    const certificate = new X509Certificate(await readFile(join(kiln.data, 'signing.crt')));
    const signature = Buffer.from(envelope.signatures[0]?.sig ?? '', 'base64');
    expect(verify('sha256', message, certificate.publicKey, signature)).toBe(true);
    expect(JSON.parse(payload.toString())).toMatchObject({
      _type: 'https://in-toto.io/Statement/v1',
      subject: [{ digest: { sha256: modules[0]?.signed?.slice('sha256:'.length) } }, {}],
      predicate: { buildDefinition: { externalParameters: { fingerprint } } },
    });
  });

  it('builds a plain Kbuild source', async () => {
    const source = await kbuildSource('plainly');
    const build = await kiln.json<Built>(
      'build',
      source,
      '-k',
      kiln.release,
      '--name',
      'plainly',
      '--version',
      '1',
    );
    expect(build.modules.map(({ name }) => name)).toEqual(['plainly']);
  });

  it('evaluates dkms.conf as bash, in the sandbox, with DKMS’s variables', async () => {
    const source = await dkmsSource(
      'evaluated',
      'NAME_PART=eval; BUILT_MODULE_NAME[0]="${NAME_PART}uated"; MAKE="make -C $kernel_source_dir M=$dkms_tree/$module/$module_version/build"; if [ -e /var/run/docker.sock ]; then DEST_MODULE_LOCATION[0]=/nowhere; fi',
    );
    const build = await kiln.json<Built>('build', source, '-k', kiln.release);
    expect(build).toMatchObject({ state: 'succeeded', modules: [{ name: 'evaluated' }] });
  });

  it('gives the same bytes for the same fingerprint on another Kiln, on another day', async () => {
    const here = await kiln.json<Built>('build', 'v4l2loopback', '-k', kiln.release);
    const other = await startKiln(await freshDirectory('other-kiln'), {
      KILN_BUILD_CPUS: '1',
      KILN_LOG_LEVEL: 'warn',
    });
    try {
      await pinToolchain(other);
      const there = await other.json<Built>('build', kiln.source, '-k', kiln.headers);
      expect(there.cached).toBe(false);
      expect(there.fingerprint).toBe(here.fingerprint);
      expect(there.modules[0]?.unsigned).toBe(here.modules[0]?.unsigned);
    } finally {
      await other.stop();
    }
  });

  it('joins a thousandth asker to the build that is under way', async () => {
    const source = await kbuildSource('joined');
    const asked = await Promise.all(
      Array.from({ length: 8 }, () =>
        kiln.json<Built>('build', source, '-k', kiln.release, '--name', 'joined', '--version', '1'),
      ),
    );
    expect(new Set(asked.map(({ id }) => id)).size).toBe(1);
    expect(new Set(asked.map(({ attempt, startedAt }) => `${attempt} ${startedAt}`)).size).toBe(1);
  });

  it('takes the same release with other headers for another kernel, and another build', async () => {
    const changed = await freshDirectory('headers');
    await mustRun('cp', ['-a', `${kiln.headers}/.`, changed]);
    const header = join(
      changed,
      `usr/src/linux-headers-${kiln.release.replace('-amd64', '-common')}/include/linux/module.h`,
    );
    await appendFile(header, '/* a later package */\n');
    const source = await kbuildSource('twice');
    const named = ['--name', 'twice', '--version', '1'];
    const one = await kiln.json<Built>('build', source, '-k', kiln.kernel, ...named);
    // A client's headers: they build, and do not answer for a release that an admin's headers have.
    const { secret } = await kiln.json<IssuedToken>('token', 'create', 'changed-headers');
    const { stdout } = await kiln.kilnAs(
      secret,
      'build',
      source,
      '-k',
      changed,
      ...named,
      '--json',
      '-q',
    );
    const other = JSON.parse(stdout) as Built;
    const byName = await kiln.json<Built>('build', source, '-k', kiln.release, ...named);
    expect(byName.kernel.digest).toBe(one.kernel.digest);
    expect(other.signature).toMatchObject({
      kind: 'unsigned',
      reason: expect.stringMatching(/headers|source/),
    });
    expect(other.kernel.release).toBe(one.kernel.release);
    expect(other.kernel.digest).not.toBe(one.kernel.digest);
    expect(other.fingerprint).not.toBe(one.fingerprint);
  });

  it('shows the compiler’s own lines first when it does not compile, and keeps the log', async () => {
    const source = await kbuildSource('broken', moduleCode('int broken = ;'));
    const { status, stderr } = await kiln.kiln(
      'build',
      source,
      '-k',
      kiln.kernel,
      '--name',
      'broken',
      '--version',
      '1',
      '-q',
    );
    expect(status).toBe(1);
    expect(stderr.split('\n')[1]).toMatch(
      /broken\.c:2:14: error: expected expression before ‘;’ token|broken\.c:2:14: error: /,
    );
    const id = /kiln logs (\w+)/.exec(stderr)?.[1] ?? '';
    expect((await kiln.kiln('logs', id)).stdout).toContain('make');
    expect((await kiln.json<BuildView>('show', id)).failure).toMatchObject({
      code: 'compile-failed',
    });
  });

  it('refuses a module that the build made under another name than it promised', async () => {
    const source = await dkmsSource('promised', 'MAKE="cp /bin/ls promised.ko"');
    const { status, stderr } = await kiln.kiln('build', source, '-k', kiln.kernel);
    expect(status).toBe(1);
    expect(stderr).toMatch(/bad-output/);
  });

  it('does not hand out a planted link for a module', async () => {
    const source = await dkmsSource('planted', 'MAKE="ln -s /etc/passwd planted.ko"');
    expect((await kiln.kiln('build', source, '-k', kiln.kernel)).stderr).toMatch(
      /left no module planted\.ko/,
    );
  });

  it('gives a slow reader the whole of a long log, and says when its output could not be written', async () => {
    const lines = 20_000;
    const source = await dkmsSource('wordy', `PRE_BUILD="talk"`, {
      talk: `#!/bin/sh\nseq -f 'line %.0f of a long log' ${lines}\n`,
    });
    await chmod(join(source, 'talk'), 0o755);
    const { id } = await kiln.json<Built>('build', source, '-k', kiln.kernel);
    const environment = {
      ...process.env,
      KILN_SERVER: kiln.url,
      KILN_TOKEN_FILE: join(kiln.data, 'admin.token'),
    };
    const read = await mustRun(
      'sh',
      ['-c', `"$1" logs ${id} | (sleep 1; grep -c 'of a long log$')`, 'sh', CLIENT],
      { env: environment },
    );
    expect(Number(read)).toBe(lines);
    const full = await run('sh', ['-c', `"$1" logs ${id} > /dev/full`, 'sh', CLIENT], {
      env: environment,
    });
    expect(full).toMatchObject({
      status: 7,
      stderr: expect.stringMatching(/output cannot be written/),
    });
    expect(
      (await run('sh', ['-c', `"$1" logs ${id} | head -n 1`, 'sh', CLIENT], { env: environment }))
        .stderr,
    ).toBe('');
  });

  it('leaves no container behind', async () => {
    // Another test's build may have ended at this moment: its container goes, too.
    for (const id of await containersOf(kiln.data, 'status=exited'))
      await until(`container ${id} has gone`, async () =>
        (await containersOf(kiln.data)).every((other) => other !== id),
      );
  });
});
