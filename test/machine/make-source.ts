import { mkdir, mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createWriteStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { pack, type Header } from 'tar-stream';

/** Small sources and strange tarballs, made for one test. */

/** Where this worker's test files put what they make; emptied before each of them. */
export const scratch = (): string =>
  join(tmpdir(), `kiln-test-${process.ppid}-${process.env.JEST_WORKER_ID ?? 0}`);

/** A fresh directory, which goes when the next test file begins. */
export const freshDirectory = async (label: string): Promise<string> => {
  await mkdir(scratch(), { recursive: true });
  return mkdtemp(join(scratch(), `${label}-`));
};

/** Writes files below a fresh directory; its path. */
export const writeTree = async (
  label: string,
  files: Readonly<Record<string, string>>,
): Promise<string> => {
  const directory = await freshDirectory(label);
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(directory, name)), { recursive: true });
    await writeFile(join(directory, name), text);
  }
  return directory;
};

/** The C of a module that loads and does nothing. `extra` makes it another module. */
export const moduleCode = (extra = ''): string => `#include <linux/module.h>
${extra}
static int __init tiny_init(void) { return 0; }
static void __exit tiny_exit(void) { }
module_init(tiny_init);
module_exit(tiny_exit);
MODULE_LICENSE("GPL");
`;

/** A plain Kbuild source of one module. */
export const kbuildSource = (name: string, code = moduleCode()): Promise<string> =>
  writeTree(name, { Kbuild: `obj-m := ${name}.o\n`, [`${name}.c`]: code });

/** A source with a dkms.conf; `conf` is added to the least there can be. */
export const dkmsSource = (
  name: string,
  conf: string,
  files: Readonly<Record<string, string>> = {},
): Promise<string> =>
  writeTree(name, {
    'dkms.conf': `PACKAGE_NAME=${name}\nPACKAGE_VERSION=1.0\nBUILT_MODULE_NAME[0]=${name}\nDEST_MODULE_LOCATION[0]=/updates\n${conf}\n`,
    Makefile: `obj-m := ${name}.o\n`,
    [`${name}.c`]: moduleCode(),
    ...files,
  });

/** An entry of a tarball, as odd as wanted. */
export type OddEntry = Partial<Header> & { readonly name: string; readonly text?: string };

/** Writes a plain tarball of the entries; its path. */
export const writeTar = async (label: string, entries: Iterable<OddEntry>): Promise<string> => {
  const file = join(await freshDirectory(label), `${label}.tar`);
  const tar = pack();
  const writing = pipeline(tar, createWriteStream(file));
  for (const { text, ...header } of entries) {
    await new Promise<void>((resolve, reject) => {
      tar.entry(header, text ?? '', (error) => (error ? reject(error) : resolve()));
    });
  }
  tar.finalize();
  await writing;
  return file;
};
