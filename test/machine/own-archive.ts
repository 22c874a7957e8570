import { createHash } from 'node:crypto';
import { copyFile, cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { freshDirectory } from './make-source.ts';
import { mustRun } from './run.ts';
import { makeKey, signText } from './signing-keys.ts';

/** An archive of packages made on the spot, signed with a key of its own. */
export interface OwnArchive {
  /** The archive as sources.list(5) names it, in deb822. */
  readonly sources: string;
  readonly directory: string;
  /** Adds a package: its control fields, and the texts of its files by path. */
  add(control: PackageControl, files: Readonly<Record<string, string>>): Promise<void>;
  /** Adds a package that is there as a file. */
  addFile(deb: string): Promise<void>;
  /** Takes a package out, in all its versions. */
  remove(name: string): Promise<void>;
  /** Writes the signed index of what is there now. `validUntil` is a date as RFC 7231 has it. */
  publish(validUntil?: string): Promise<void>;
}

/** What a package is called and depends on. */
export interface PackageControl {
  readonly name: string;
  readonly version: string;
  readonly depends?: string;
}

/** Lays an archive into the directory that a guest sees at `/host`, and names it in a file `NAME.sources` there. */
export const layForGuest = async (
  archive: OwnArchive,
  shared: string,
  name: string,
): Promise<void> => {
  const home = join(shared, 'archive');
  await cp(archive.directory, home, { recursive: true });
  const key = /^Signed-By: (.*)$/m.exec(archive.sources)?.[1] ?? '';
  await copyFile(key, join(home, 'key.gpg'));
  // apt reads as a user of its own.
  await mustRun('chmod', ['-R', 'a+rX', home]);
  await writeFile(
    join(shared, `${name}.sources`),
    'Types: deb\nURIs: file:/host/archive\nSuites: ./\nSigned-By: /host/archive/key.gpg\n',
  );
};

/** Makes an archive without packages. */
export const makeArchive = async (label: string): Promise<OwnArchive> => {
  const directory = await freshDirectory(label);
  const key = await makeKey('Archive');
  const pool = join(directory, 'pool');
  await mkdir(pool);
  return {
    directory,
    sources: `Types: deb\nURIs: file:${directory}\nSuites: ./\nSigned-By: ${key.binary}\n`,
    async add({ name, version, depends = '' }, files) {
      const root = await freshDirectory('package');
      const control = `Package: ${name}\nVersion: ${version}\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: made in a test\n${depends === '' ? '' : `Depends: ${depends}\n`}`;
      for (const [path, text] of Object.entries({ ...files, 'DEBIAN/control': control })) {
        await mkdir(dirname(join(root, path)), { recursive: true });
        await writeFile(join(root, path), text);
      }
      await mustRun('dpkg-deb', ['--root-owner-group', '--build', root, pool]);
    },
    addFile: (deb) => copyFile(deb, join(pool, basename(deb))),
    async remove(name) {
      for (const file of await readdir(pool))
        if (file.startsWith(`${name}_`)) await rm(join(pool, file));
    },
    async publish(validUntil) {
      const stanzas: string[] = [];
      for (const file of (await readdir(pool)).sort()) {
        const bytes = await readFile(join(pool, file));
        const control = await mustRun('dpkg-deb', ['--field', join(pool, file)]);
        stanzas.push(
          `${control.trimEnd()}\nFilename: pool/${file}\nSize: ${bytes.length}\nSHA256: ${hashOf(bytes)}\n`,
        );
      }
      const packages = Buffer.from(stanzas.join('\n'));
      await writeFile(join(directory, 'Packages'), packages);
      const until = validUntil === undefined ? '' : `Valid-Until: ${validUntil}\n`;
      const release = `Suite: own\nDate: ${new Date().toUTCString()}\n${until}SHA256:\n ${hashOf(packages)} ${packages.length} Packages\n`;
      await writeFile(join(directory, 'InRelease'), await signText(key, release));
    },
  };
};

const hashOf = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
