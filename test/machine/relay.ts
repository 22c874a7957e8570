import { serveFiles, type FileServer } from './file-server.ts';

/** Passes requests on to a service, and its answers back; `change` may change an answer's bytes in place, or count them. */
export const relayTo = (
  url: string,
  change: (path: string, bytes: Buffer) => void,
): Promise<FileServer> =>
  serveFiles('/nonexistent', (request, response) => {
    const path = request.url ?? '';
    void (async () => {
      const answer = await fetch(`${url}${path}`);
      const bytes = Buffer.from(await answer.arrayBuffer());
      change(path, bytes);
      response.writeHead(answer.status, { 'content-length': bytes.length }).end(bytes);
    })();
    return true;
  });

/** Turns one bit of some bytes. */
export const spoil = (bytes: Buffer): void => {
  const at = Math.floor(bytes.length / 2);
  bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
};
