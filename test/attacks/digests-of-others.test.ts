import { readFile } from 'node:fs/promises';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { digestOf, type Digest } from '../../services/core/digest.ts';
import { DELTA_FILE } from '../../services/core/kernel/kernel-delta.ts';
import type { BuildView } from '../../services/core/protocol/build.ts';
import type { KernelView } from '../../services/core/protocol/kernel.ts';
import type { SourceView } from '../../services/core/protocol/source.ts';
import { kbuildSource, moduleCode, writeTar } from '../machine/make-source.ts';
import { sharedKiln } from '../machine/shared.ts';

/** Who knows the digest of another’s bytes learns nothing by it, and can make no record of them: that takes the bytes, or the right to read them. */

const kiln = sharedKiln();
const statusOf = async (...of: Parameters<typeof kiln.call>): Promise<number> => {
  const answer = await kiln.call(...of);
  await answer.body?.cancel();
  return answer.status;
};
const put = async (token: string, bytes: Buffer): Promise<Digest> => {
  const answer = await kiln.put(token, new Uint8Array(bytes));
  expect(answer.status).toBe(201);
  return digestOf(bytes);
};
const make = async <T>(token: string, path: string, body: unknown): Promise<T> => {
  const answer = await kiln.call(token, 'POST', path, body);
  expect(answer.status).toBe(201);
  return (await answer.json()) as T;
};

const sourceBytes = async (name: string): Promise<Buffer> =>
  readFile(
    await writeTar(name, [
      { name: 'Kbuild', text: `obj-m := ${name}.o\n` },
      { name: `${name}.c`, text: moduleCode(`/* ${name} */`) },
    ]),
  );

/** Headers of a kernel of one’s own, as small as they can be. */
const headerBytes = async (release: string): Promise<Buffer> =>
  readFile(
    await writeTar('headers', [
      { name: '.config', text: 'CONFIG_X86_64=y\nCONFIG_CC_VERSION_TEXT="gcc 12"\n' },
      { name: 'Makefile', text: `# ${release}\n` },
      {
        name: 'include/generated/utsrelease.h',
        text: `#define UTS_RELEASE "${release}"\n`,
      },
    ]),
  );

let [owner, other, ci] = ['', '', ''];
beforeAll(async () => {
  owner = await kiln.newToken('digest-owner', 'client');
  other = await kiln.newToken('digest-other', 'client');
  ci = await kiln.newToken('digest-ci', 'ci');
});

describe('the digest of bytes that another sent', () => {
  const named = (blob: Digest) => ({ blob, name: 'borrowed', version: '1' });

  it('makes no source while they are no record yet, for anybody else', async () => {
    const blob = await put(owner, await sourceBytes('unrecorded'));
    for (const token of [other, ci]) {
      expect(await statusOf(token, 'HEAD', `/blobs/${blob}`)).toBe(404);
      expect(await statusOf(token, 'POST', '/sources', named(blob))).toBe(404);
      expect(await statusOf(token, 'POST', '/kernels', { blob })).toBe(404);
    }
    expect(await statusOf(owner, 'HEAD', `/blobs/${blob}`)).toBe(200);
    await make(owner, '/sources', named(blob));
  });

  it('makes no source of a source that is another’s, until the bytes are sent', async () => {
    const bytes = await sourceBytes('sent-twice');
    const blob = await put(owner, bytes);
    const { digest } = await make<SourceView>(owner, '/sources', named(blob));
    const wish = { source: { digest }, kernel: { digest: kiln.kernel } };
    expect(await statusOf(other, 'HEAD', `/blobs/${blob}`)).toBe(404);
    const refused = await kiln.call(other, 'POST', '/sources', named(blob));
    expect([refused.status, await refused.json()]).toEqual([
      404,
      expect.objectContaining({ detail: `there is no blob ${blob} of yours; PUT it first` }),
    ]);
    expect(await statusOf(other, 'POST', '/builds', wish)).toBe(404);
    expect(await statusOf(ci, 'HEAD', `/blobs/${blob}`)).toBe(200);

    await put(other, bytes);
    expect(await statusOf(other, 'HEAD', `/blobs/${blob}`)).toBe(200);
    expect(await make<SourceView>(other, '/sources', named(blob))).toMatchObject({ digest });
    expect(await statusOf(other, 'HEAD', `/blobs/${blob}`)).toBe(200);
  });

  it('makes no source of what another’s build made', async () => {
    const source = await kbuildSource('made');
    const push = ['source', 'push', source, '--name', 'made', '--version', '1', '--json', '-q'];
    const pushed = await kiln.kilnAs(owner, ...push);
    const { digest } = JSON.parse(pushed.stdout) as SourceView;
    const args = ['build', digest, '-k', kiln.kernel, '--json', '-q'];
    const build = JSON.parse((await kiln.kilnAs(owner, ...args)).stdout) as BuildView;
    const made = [build.log, build.modules[0]?.unsigned] as Digest[];
    for (const blob of made) {
      expect(await statusOf(other, 'HEAD', `/blobs/${blob}`)).toBe(404);
      expect(await statusOf(other, 'POST', '/sources', named(blob))).toBe(404);
      expect(await statusOf(owner, 'HEAD', `/blobs/${blob}`)).toBe(200);
    }
  });

  it('is known of a toolchain to admins and ci alone', async () => {
    expect(await statusOf(other, 'HEAD', `/blobs/${kiln.toolchain}`)).toBe(404);
    expect(await statusOf(ci, 'HEAD', `/blobs/${kiln.toolchain}`)).toBe(200);
  });
});

describe('the digest of a kernel', () => {
  let kernel: KernelView;
  let blob: Digest;
  let bytes: Buffer;
  beforeAll(async () => {
    bytes = await headerBytes('6.1.77-private');
    blob = await put(owner, bytes);
    kernel = await make<KernelView>(owner, '/kernels', { blob });
  });

  it('that another has pushed is confirmed by nobody but who may read it', async () => {
    const { digest } = kernel;
    expect(await statusOf(other, 'POST', '/kernels', { digest })).toBe(404);
    expect(await statusOf(other, 'POST', '/kernels', { blob })).toBe(404);
    expect(await statusOf(other, 'GET', `/kernels/${digest}`)).toBe(404);
    expect(await statusOf(owner, 'POST', '/kernels', { digest })).toBe(201);
  });

  it('is no base for who may not read it, and is not said to be there', async () => {
    const delta = async () =>
      put(
        other,
        await readFile(
          await writeTar('delta', [
            {
              name: DELTA_FILE,
              text: JSON.stringify({ from: '6.1.77-private', to: '6.1.78-private', steps: [] }),
            },
          ]),
        ),
      );
    const ask = async (base: string) => {
      const body = { delta: await delta(), base, makes: kernel.digest };
      const answer = await kiln.call(other, 'POST', '/kernels', body);
      const { detail } = (await answer.json()) as { detail: string };
      return [answer.status, detail.replace(base, 'BASE')];
    };
    expect(await ask(kernel.digest)).toEqual(await ask(digestOf('never was')));
  });

  it('that all may read is confirmed by anybody without a byte', async () => {
    expect(await statusOf(other, 'POST', '/kernels', { digest: kiln.kernel })).toBe(201);
  });

  it('that another has pushed is one’s own once its bytes are sent', async () => {
    await put(other, bytes);
    expect(await make<KernelView>(other, '/kernels', { blob })).toMatchObject({
      digest: kernel.digest,
    });
    expect(await statusOf(other, 'GET', `/kernels/${kernel.digest}`)).toBe(200);
  });
});
