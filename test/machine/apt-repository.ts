import { createHash } from 'node:crypto';
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { freshDirectory } from './make-source.ts';
import { mustRun } from './run.ts';
import { signText, type SigningKey } from './signing-keys.ts';

const sha256 = (bytes: Buffer | string): string => createHash('sha256').update(bytes).digest('hex');

/** Makes a signed archive of Debian packages in a directory; the deb822 text by which apt follows it. */
export const aptRepository = async (
  packages: readonly string[],
  key: SigningKey,
  suite = 'noble',
): Promise<string> => {
  const top = await freshDirectory('apt-repository');
  const lists = join(top, 'dists', suite, 'main/binary-amd64');
  await mkdir(lists, { recursive: true });
  await mkdir(join(top, 'pool'));
  const stanzas: string[] = [];
  for (const file of packages) {
    const bytes = await readFile(file);
    const place = `pool/${basename(file)}`;
    await copyFile(file, join(top, place));
    const control = (await mustRun('dpkg-deb', ['-f', file])).trim();
    stanzas.push(
      `${control}\nFilename: ${place}\nSize: ${bytes.length}\nSHA256: ${sha256(bytes)}\n`,
    );
  }
  const list = stanzas.join('\n');
  await writeFile(join(lists, 'Packages'), list);
  const release = `Origin: ${suite}
Suite: ${suite}
Codename: ${suite}
Date: ${new Date().toUTCString().replace('GMT', '+0000')}
Architectures: amd64
Components: main
SHA256:
 ${sha256(list)} ${Buffer.byteLength(list)} main/binary-amd64/Packages
`;
  await writeFile(join(top, 'dists', suite, 'InRelease'), await signText(key, release));
  return `Types: deb\nURIs: file://${top}\nSuites: ${suite}\nComponents: main\nSigned-By: ${key.binary}\n`;
};
