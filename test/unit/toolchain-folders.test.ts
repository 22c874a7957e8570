import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';

const IMAGES = new URL('../../images/', import.meta.url).pathname;
const folders = readdirSync(IMAGES, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name);
const read = (folder: string, file: string): string =>
  readFileSync(join(IMAGES, folder, file), 'utf8');

describe.each(folders)('the toolchain %s', (folder) => {
  const description = JSON.parse(read(folder, 'toolchain.json')) as {
    readonly name: string;
    readonly packages: readonly string[];
  };
  const locked = read(folder, 'packages.lock').trimEnd().split('\n');

  it('is called like its folder', () => {
    expect(description.name).toBe(folder);
  });

  it('names every package by version and hash, once and in order', () => {
    for (const line of locked)
      expect(line).toMatch(/^[a-z0-9][a-z0-9.+-]*(:amd64)? \S+ [0-9a-f]{64}$/);
    expect(locked).toEqual([...new Set(locked)].sort());
    const names = new Set(locked.map((line) => line.split(/[ :]/)[0]));
    for (const wanted of description.packages) expect(names).toContain(wanted);
  });

  it('says what is made of them', () => {
    expect(read(folder, 'rootfs.sha256')).toMatch(/^[0-9a-f]{64}\n$/);
  });
});
