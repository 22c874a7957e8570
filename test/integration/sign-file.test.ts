import { createPrivateKey, sign, X509Certificate } from 'node:crypto';
import { copyFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from '@jest/globals';
import {
  signModule,
  splitModule,
  type SignatureHash,
} from '../../services/core/module/module-signature.ts';
import { debianHeaders, debianKernel, newestRelease } from '../machine/debian.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { mustRun, run } from '../machine/run.ts';

describe('a signature of Kiln’s', () => {
  let directory: string;
  let module: string;
  let signFile: string;

  beforeAll(async () => {
    directory = await freshDirectory('sign');
    const release = await newestRelease();
    const headers = await debianHeaders(release);
    signFile = join(headers, 'usr/lib/linux-kbuild-6.1/scripts/sign-file');
    module = join(
      await debianKernel(release),
      'lib/modules',
      release,
      'kernel/drivers/net/dummy.ko',
    );
    await mustRun('openssl', [
      'req',
      '-x509',
      '-newkey',
      'rsa:4096',
      '-nodes',
      '-days',
      '2',
      '-subj',
      '/O=Kiln test/CN=module signing é',
      '-keyout',
      join(directory, 'key.pem'),
      '-out',
      join(directory, 'crt.pem'),
    ]);
  });

  it.each<SignatureHash>(['sha256', 'sha512'])(
    'is byte for byte what Debian’s sign-file makes, with %s',
    async (hash) => {
      const unsigned = splitModule(await readFile(module))?.unsigned ?? (await readFile(module));
      const theirs = join(directory, `theirs-${hash}.ko`);
      await writeFile(theirs, unsigned);
      await mustRun(signFile, [
        hash,
        join(directory, 'key.pem'),
        join(directory, 'crt.pem'),
        theirs,
      ]);

      const certificate = new X509Certificate(await readFile(join(directory, 'crt.pem')));
      const key = createPrivateKey(await readFile(join(directory, 'key.pem')));
      const ours = await signModule(unsigned, hash, certificate, {
        sign: (algorithm, message) => Promise.resolve(sign(algorithm, message, key)),
      });

      expect(ours.equals(await readFile(theirs))).toBe(true);
    },
  );

  it('is accepted by openssl, over the unsigned bytes and no others', async () => {
    const certificate = new X509Certificate(await readFile(join(directory, 'crt.pem')));
    const key = createPrivateKey(await readFile(join(directory, 'key.pem')));
    const signed = await signModule(await readFile(module), 'sha256', certificate, {
      sign: (algorithm, message) => Promise.resolve(sign(algorithm, message, key)),
    });
    await writeFile(join(directory, 'signature.der'), splitModule(signed)?.pkcs7 ?? '');
    const verify = (content: string) =>
      run('openssl', [
        'cms',
        '-verify',
        '-binary',
        '-inform',
        'DER',
        '-in',
        join(directory, 'signature.der'),
        '-content',
        content,
        '-certfile',
        join(directory, 'crt.pem'),
        '-CAfile',
        join(directory, 'crt.pem'),
        '-purpose',
        'any',
        '-out',
        '/dev/null',
      ]);
    expect((await verify(module)).status).toBe(0);
    await copyFile(module, join(directory, 'other.ko'));
    await writeFile(join(directory, 'other.ko'), 'x', { flag: 'a' });
    expect((await verify(join(directory, 'other.ko'))).status).not.toBe(0);
  });
});
