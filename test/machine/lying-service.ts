import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A hostile server in front of a real Kiln: it asks and answers what a test wants. */
export interface LyingService {
  readonly url: string;
  /** Changes the JSON of questions and of answers from now on, by their path; `null` changes nothing. */
  lie(lies: Lies | null): void;
  close(): Promise<void>;
}

/** Each gets the path and the JSON, and gives what shall stand there instead. */
export interface Lies {
  readonly asks?: (path: string, json: never) => unknown;
  readonly answers?: (path: string, json: never) => unknown;
}

const changed = (
  change: ((path: string, json: never) => unknown) | undefined,
  path: string,
  bytes: Buffer,
): Buffer => {
  if (change === undefined || bytes.length === 0) return bytes;
  try {
    return Buffer.from(JSON.stringify(change(path, JSON.parse(bytes.toString('utf8')) as never)));
  } catch {
    return bytes;
  }
};

/** Starts one. Followed builds are not for it: have them built before. */
export const startLyingService = async (to: string): Promise<LyingService> => {
  let lies: Lies | null = null;
  const server = createServer((request, response) => {
    const answer = async (): Promise<void> => {
      const pieces: Buffer[] = [];
      for await (const piece of request) pieces.push(piece as Buffer);
      const path = request.url ?? '/';
      const body = changed(lies?.asks, path, Buffer.concat(pieces));
      const real = await fetch(new URL(path, to), {
        method: request.method ?? 'GET',
        headers: {
          Authorization: request.headers.authorization ?? '',
          'Content-Type': request.headers['content-type'] ?? 'application/json',
        },
        ...(body.length === 0 ? {} : { body: new Uint8Array(body) }),
      });
      const bytes = Buffer.from(await real.arrayBuffer());
      const type = real.headers.get('content-type') ?? 'application/octet-stream';
      response.writeHead(real.status, { 'Content-Type': type, 'Accept-Ranges': 'bytes' });
      response.end(type.includes('json') ? changed(lies?.answers, path, bytes) : bytes);
    };
    answer().catch(() => response.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    lie(next) {
      lies = next;
    },
    async close() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
};
