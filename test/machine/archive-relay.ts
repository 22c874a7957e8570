import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { debianSources } from './apt.ts';

/** Debian's archive on an address of this machine, for containers that reach nothing else. */
export interface ArchiveRelay {
  /** The archive as sources.list(5) names it, in deb822. */
  readonly sources: string;
  readonly uri: string;
  /** The paths that it was asked for so far, a line each. */
  asked(): string;
  close(): Promise<void>;
}

/** Passes requests on to the archive that this machine's apt is set to. */
export const relayArchive = async (address: string): Promise<ArchiveRelay> => {
  const [stanza = ''] = await debianSources();
  const origin = /^URIs:\s*(\S+)/m.exec(stanza)?.[1] ?? '';
  let asked = '';
  const server = createServer((request, response) => {
    asked += `${request.url ?? ''}\n`;
    const pass = async (): Promise<void> => {
      const { status, body } = await fetch(`${origin.replace(/\/$/, '')}${request.url ?? '/'}`, {
        headers: { 'accept-encoding': 'identity' },
      });
      response.writeHead(status);
      if (body === null) response.end();
      else await pipeline(Readable.fromWeb(body), response);
    };
    pass().catch(() => response.destroy());
  });
  server.listen(0, address);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const uri = `http://${address}:${port}`;
  return {
    uri,
    sources: stanza.replace(/^URIs:.*$/m, `URIs: ${uri}`),
    asked: () => asked,
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
};
