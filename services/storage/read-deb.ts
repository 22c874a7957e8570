import type { Readable } from 'node:stream';
import { KilnError } from '../core/errors.ts';
import { createByteReader } from './byte-reader.ts';

/** How a Debian package begins: it is an `ar` archive (source: deb(5)). */
export const DEB_MAGIC = Buffer.from('!<arch>\n');

const HEADER = 60;
const MAX_MEMBERS = 16;

/**
 * Walks a Debian package: `control` gets the tarball with the package's description, `data` the one with its files.
 * Each must read its stream to the end. Throws `KilnError('bad-tarball')`.
 */
export const readDeb = async (
  deb: AsyncIterable<Buffer>,
  visit: { control(tar: Readable): Promise<void>; data(tar: Readable): Promise<void> },
): Promise<void> => {
  const reader = createByteReader(deb);
  await reader.read(DEB_MAGIC.length);
  let hasData = false;
  for (let member = 0; member < MAX_MEMBERS; member += 1) {
    const header = (await reader.read(HEADER)).toString('latin1');
    if (header === '' && hasData) return;
    const size = /^[^\n]{48}(\d{1,10}) *`\n$/.exec(header)?.[1];
    if (size === undefined) break;
    const name = header.slice(0, 16).trim().replace(/\/$/, '');
    const body = reader.slice(Number(size));
    if (/^control\.tar(\.[a-z0-9]+)?$/.test(name)) await visit.control(body);
    else if (/^data\.tar(\.[a-z0-9]+)?$/.test(name)) {
      await visit.data(body);
      hasData = true;
    }
    for await (const _ of body);
    if (Number(size) % 2 === 1) await reader.read(1);
  }
  throw new KilnError('bad-tarball', 'the Debian package is malformed; download it again');
};
