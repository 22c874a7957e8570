import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { KilnError } from '../core/errors.ts';

/**
 * Makes sure that one process at a time works in a directory: it holds a socket there, which a dead process cannot.
 * The result gives the directory free. Throws `conflict` if another process has it.
 */
export const lockDirectory = async (directory: string): Promise<() => Promise<void>> => {
  const path = join(directory, 'kilnd.lock');
  if (Buffer.byteLength(path) > 100) {
    throw new KilnError(
      'bad-request',
      `the path ${directory} is too long for the sockets in it; use one of at most 80 characters`,
    );
  }
  if (await isHeld(path))
    throw new KilnError('conflict', `another kilnd already runs on ${directory}`);
  await rm(path, { force: true });
  const server = createServer((socket) => socket.end());
  server.listen(path);
  await once(server, 'listening');
  return async () => {
    const closed = once(server, 'close');
    server.close();
    await closed;
  };
};

const isHeld = (path: string): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
