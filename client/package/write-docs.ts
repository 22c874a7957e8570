import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { COMMANDS, COMMON_HELP, COMMON_OPTIONS } from '../commands.ts';
import { bashCompletion } from './completion.ts';
import { manPage } from './man-page.ts';

/** Writes what is made of the command table into a package's tree: `node write-docs.ts TREE VERSION`. */
const [tree = '', version = ''] = process.argv.slice(2);

const write = (path: string, text: string): void => {
  mkdirSync(dirname(join(tree, path)), { recursive: true });
  writeFileSync(join(tree, path), text);
};

const config = readFileSync(join(tree, 'usr/share/kiln/config'), 'utf8');
write('usr/share/man/man8/kiln.8', manPage(COMMANDS, COMMON_HELP, config, version));
write('usr/share/bash-completion/completions/kiln', bashCompletion(COMMANDS, COMMON_OPTIONS));
