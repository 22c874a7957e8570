import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, expect, it } from '@jest/globals';

const CHECKOUT = resolve(import.meta.dirname, '../..');

/** What each part may import of ours, besides itself. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  'services/core': [],
  'services/storage': ['services/core'],
  'services/api': ['services/core', 'services/storage'],
  'services/builder': ['services/core', 'services/storage'],
  'services/signer': ['services/core', 'services/storage'],
  'services/machine': ['services/core', 'services/storage'],
  client: ['services/core'],
};

/** Packages that have one home. */
const HOMES: Readonly<Record<string, (file: string) => boolean>> = {
  '@aws-sdk/client-s3': (file) => /^services\/storage\/s3-(client|bucket)\.ts$/.test(file),
  dockerode: (file) => file === 'services/builder/docker.ts',
  bullmq: (file) => file === 'services/storage/queues.ts',
  kysely: (file) => file.startsWith('services/storage/') || file.startsWith('services/api/'),
  openpgp: (file) => file === 'services/storage/openpgp.ts',
  'node:sqlite': (file) => file === 'services/storage/embedded-database.ts',
  pg: (file) => file === 'services/storage/postgres.ts',
  express: (file) => file.startsWith('services/api/'),
};

interface SourceFile {
  readonly file: string;
  readonly text: string;
  readonly imports: readonly string[];
}

const sourceFiles = (folder: string): SourceFile[] =>
  readdirSync(join(CHECKOUT, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => {
      const file = join(folder, name);
      const text = readFileSync(join(CHECKOUT, file), 'utf8');
      const imports = [...text.matchAll(/(?:from |import |import\()'([^']+)'/g)].map(
        (match) => match[1] ?? '',
      );
      return { file, text, imports };
    });

const ourImports = ({ file, imports }: SourceFile): string[] =>
  imports
    .filter((name) => name.startsWith('.'))
    .map((name) => relative(CHECKOUT, resolve(CHECKOUT, dirname(file), name)));

const all = [...sourceFiles('services'), ...sourceFiles('client')];

/** A part of the house: a folder, or a file that stands in none (`client/kiln.ts`). */
const partOf = (file: string): string => {
  const depth = file.startsWith('services/') ? 3 : 2;
  return file.split('/').slice(0, depth).join('/');
};

/** Parts that import each other, by whatever way round; each circle once for each part in it. */
const circles = (files: readonly SourceFile[]): string[] => {
  const imports = new Map<string, Set<string>>();
  for (const source of files) {
    const part = partOf(source.file);
    const targets = imports.get(part) ?? new Set();
    for (const target of ourImports(source))
      if (partOf(target) !== part) targets.add(partOf(target));
    imports.set(part, targets);
  }
  const reaches = (from: string, to: string, seen = new Set<string>()): boolean =>
    [...(imports.get(from) ?? [])].some((next) => {
      if (next === to) return true;
      if (seen.has(next)) return false;
      return reaches(next, to, seen.add(next));
    });
  return [...imports.keys()].filter((part) => reaches(part, part));
};

describe('the house', () => {
  it.each(Object.entries(ALLOWED))(
    '%s imports nothing of ours but itself and %j',
    (part, allowed) => {
      const strays = sourceFiles(part).flatMap((source) =>
        ourImports(source)
          .filter((target) => ![part, ...allowed].some((home) => target.startsWith(`${home}/`)))
          .map((target) => `${source.file} imports ${target}`),
      );
      expect(strays).toEqual([]);
    },
  );

  it('has no folders that import each other in a circle', () => {
    expect(circles(all)).toEqual([]);
  });

  it('gives each framework one home', () => {
    const strays = all.flatMap(({ file, imports }) =>
      imports
        .filter((name) => HOMES[name]?.(file) === false)
        .map((name) => `${file} imports ${name}`),
    );
    expect(strays).toEqual([]);
  });

  it('reads the environment in config files and kilnd alone', () => {
    const readers = all.filter(({ text }) => text.includes('process.env')).map(({ file }) => file);
    expect(readers.filter((file) => !/(^|\/)config\.ts$/.test(file))).toEqual([
      'services/kilnd.ts',
    ]);
  });

  it('keeps I/O, clock and randomness out of core', () => {
    const impure = sourceFiles('services/core').filter(({ text }) =>
      /from 'node:(?!crypto')|Date\.now|new Date\(\)|Math\.random|randomBytes|randomUUID|performance\./.test(
        text,
      ),
    );
    expect(impure.map(({ file }) => file)).toEqual([]);
  });
});
