import { readFileSync, writeFileSync } from 'node:fs';

/**
 * Turns off Bun's own environment variables in a compiled client: some run other code (`BUN_OPTIONS`, `BUN_BE_BUN`,
 * `BUN_JSC_functionOverrides`), some write files or open a debugger. Bun has no option for that, so the names that it looks up are
 * overwritten in the file with `=UN_…`, which no variable can be called. Throws if the names are not where this version of Bun has them.
 *
 * usage: bun client/close-runtime.ts FILE
 */

const OPEN = 'B'.charCodeAt(0);
const CLOSED = '='.charCodeAt(0);

/** The offsets of the names as C strings. Strings of JavaScript's bytecode are left alone: a hash before each would no longer fit. */
const namesIn = (bytes: Buffer): readonly number[] => {
  const found: number[] = [];
  for (let at = bytes.indexOf('\0BUN_'); at >= 0; at = bytes.indexOf('\0BUN_', at + 1)) {
    const isInBytecode = bytes[at - 3] === 0x80;
    const isName = /^BUN_[A-Z0-9_]{3,80}\0/.test(bytes.toString('latin1', at + 1, at + 100));
    if (isName && !isInBytecode) found.push(at + 1);
  }
  return found;
};

/** The look-up of `BUN_JSC_…` compares letter by letter: `cmpb $'B',(%r14)`, `jne`, `cmpb $'U',1(%r14)`, `jne`, … */
const prefixesIn = (bytes: Buffer): readonly number[] => {
  const compare = (letter: string, index: number): string =>
    index === 0 ? `\x41\x80\x3e${letter}` : `\x41\x80\x7e${String.fromCharCode(index)}${letter}`;
  const [first = '', ...others] = 'BUN_JSC_'.split('').map(compare);
  const start = Buffer.from(first, 'latin1');
  const found: number[] = [];
  for (let at = bytes.indexOf(start); at >= 0; at = bytes.indexOf(start, at + 1)) {
    const code = bytes.toString('latin1', at, at + 80);
    if (others.every((each, index) => code.startsWith(each, 6 + 7 * index))) found.push(at + 3);
  }
  return found;
};

const [file = ''] = process.argv.slice(2);
const bytes = readFileSync(file);
const names = namesIn(bytes);
const prefixes = prefixesIn(bytes);
if (names.length < 50 || prefixes.length !== 1)
  throw new Error(
    `this bun keeps the names of its variables elsewhere (${names.length} names, ${prefixes.length} prefixes); find them anew`,
  );
for (const at of [...names, ...prefixes]) {
  if (bytes[at] !== OPEN) throw new Error(`no B at ${at}`);
  bytes[at] = CLOSED;
}
writeFileSync(file, bytes);
