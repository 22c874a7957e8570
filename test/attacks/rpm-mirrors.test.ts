import { readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { serveFiles, type FileServer } from '../machine/file-server.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { BELIEVED, startMirrorFollower, type MirrorFollower } from '../machine/mirror-follower.ts';
import { makeKey } from '../machine/signing-keys.ts';

/** What a mirror of an RPM repository may do instead of giving files, and what an admin may describe it with. */

let mirror: MirrorFollower;
beforeAll(async () => {
  mirror = await startMirrorFollower();
});
afterAll(() => mirror.stop());

describe('a server', () => {
  let server: FileServer | null = null;
  afterEach(async () => {
    await server?.close();
    server = null;
  });

  it('that sends without end is left', async () => {
    server = await serveFiles(await mirror.unsigned(), (_, response) => {
      const more = (): void => {
        while (response.write('<a></a>'.repeat(10_000)));
      };
      response.on('drain', more);
      more();
      return true;
    });
    expect(await mirror.lookAt(server.url)).toMatch(/repomd\.xml has more than 1048576 bytes/);
  });

  it('that sends what becomes much on the way is left', async () => {
    const zeros = gzipSync(Buffer.alloc(64 * 1024 ** 2));
    server = await serveFiles(await mirror.unsigned(), (_, response) => {
      response.writeHead(200, { 'content-encoding': 'gzip' }).end(zeros);
      return true;
    });
    expect(await mirror.lookAt(server.url)).toMatch(/repomd\.xml has more than 1048576 bytes/);
  });

  it('may redirect to another one, as mirrors do', async () => {
    const other = await serveFiles(await mirror.signed());
    server = await serveFiles('/nowhere', ({ url }, response) => {
      response.writeHead(302, { location: `${other.url}${url ?? ''}` }).end();
      return true;
    });
    expect(await mirror.lookAt(server.url)).toMatch(BELIEVED);
    await other.close();
  });

  it.each([
    [
      'to a file',
      'file:///etc/passwd',
      /redirects to "file:\/\/\/etc\/passwd"; from there only https is followed, or http/,
    ],
    ['to no address', 'http://', /redirects to "http:\/\/"/],
    ['in a circle', '/repodata/repomd.xml', /redirects more than 5 times/],
  ])('that redirects %s is not followed', async (_, location, words) => {
    server = await serveFiles(await mirror.signed(), (_request, response) => {
      response.writeHead(301, { location }).end();
      return true;
    });
    expect(await mirror.lookAt(server.url)).toMatch(words);
  });

  it('that has nothing, fails or does not answer is named', async () => {
    server = await serveFiles(await freshDirectory('empty'));
    expect(await mirror.lookAt(server.url)).toMatch(
      /repomd\.xml is not there; give the baseurl that has repodata in it/,
    );
    const { url } = server;
    await server.close();
    server = null;
    expect(await mirror.lookAt(url)).toMatch(/repomd\.xml cannot be had: .*ECONNREFUSED/);
    server = await serveFiles(await freshDirectory('failing'), (_, response) => {
      response.writeHead(500).end();
      return true;
    });
    expect(await mirror.lookAt(server.url)).toMatch(/repomd\.xml answered with 500/);
  });
});

describe('a directory', () => {
  it('that has something without end in the place of a file is left', async () => {
    const top = await mirror.unsigned();
    await rm(join(top, 'repodata/repomd.xml'));
    await symlink('/dev/zero', join(top, 'repodata/repomd.xml'));
    expect(await mirror.lookAtUnsigned(top)).toMatch(/repomd\.xml is no file/);
  });
});

describe('a keyring', () => {
  it('that is not there, or holds no key, is named', async () => {
    const top = `file://${await mirror.signed()}`;
    expect(await mirror.lookAt(top, '', { ...mirror.key, armored: '/no/such/key' })).toMatch(
      /gpgkey \/no\/such\/key cannot be read on the service’s machine/,
    );
    expect(await mirror.lookAt(top, '', { ...mirror.key, armored: mirror.key.binary })).toMatch(
      /key\.gpg has no public key \(-----BEGIN PGP PUBLIC KEY BLOCK-----\)/,
    );
  });

  it('counts as it is now: a key that was taken out of it vouches for nothing any more', async () => {
    const top = await mirror.signed();
    const keys = await makeKey('Ring');
    await writeFile(keys.armored, await readFile(mirror.key.armored));
    expect(await mirror.lookAt(`file://${top}`, '', keys)).toMatch(BELIEVED);
    await writeFile(keys.armored, await readFile(mirror.stranger.armored));
    expect(await mirror.look()).toMatch(
      /repomd\.xml is not signed by a key of the archive’s gpgkey/,
    );
  });
});

it('a .repo file by which something unsigned could come is refused before anything is fetched', async () => {
  const refusal = async (settings: string): Promise<string> => {
    const { status, stderr } = await mirror.add('http://127.0.0.1:1', settings);
    expect(status).toBe(2);
    return stderr;
  };
  expect(await refusal('pkg_gpgcheck=0')).toMatch(
    /pkg_gpgcheck=0; leave it out, so that nothing unsigned is taken/,
  );
  expect(await refusal('sslverify=0')).toMatch(/sslverify=0/);
  expect(await refusal('mirrorlist=http://x')).toMatch(/names its mirrors by mirrorlist/);
  expect(await refusal('proxy=http://x')).toMatch(/sets proxy; leave it out/);
});
