import { readFileSync } from 'node:fs';

/** What builds a module in the sandbox: `images/stand-ins` and `images/build`, one after the other. Its digest is part of every fingerprint. */
export const readBuildScript = (): string =>
  ['stand-ins', 'build']
    .map((name) => readFileSync(new URL(`../../images/${name}`, import.meta.url), 'utf8'))
    .join('');

/** What packs modules in the sandbox: `images/package`. Its digest is part of every package's fingerprint. */
export const readPackageScript = (): string =>
  readFileSync(new URL('../../images/package', import.meta.url), 'utf8');
