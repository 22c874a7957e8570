import { once } from 'node:events';
import {
  createServer as createHttpServer,
  request,
  type IncomingMessage,
  type Server as HttpServer,
  type ServerResponse,
} from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { pipeline } from 'node:stream';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { freshDirectory } from './make-source.ts';
import { mustRun } from './run.ts';

/** What may stand between a client and its Kiln, with the faults that a test wants. All on loopback, each on a free port. */

/** A TCP relay to a service. */
export interface Relay {
  readonly url: string;
  /** Bytes that it has carried to the client so far. */
  carried(): number;
  /** Closes each connection once, when it has carried so many bytes more. */
  cutAfter(bytes: number): void;
  /** Carries nothing more to the client on the connections it has, and keeps them open. */
  stallAfter(bytes: number): void;
  /** What clients have sent, as text. */
  asked(): string;
  close(): Promise<void>;
}

const listen = async (server: Server | HttpServer, port = 0): Promise<number> => {
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
};

/** Ends a server and the connections it has. */
const closer = (server: Server | HttpServer): (() => Promise<void>) => {
  const open = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
  });
  return async () => {
    const closed = once(server, 'close');
    server.close();
    for (const socket of open) socket.destroy();
    await closed;
  };
};

/** Ports below those that the kernel gives away by itself. */
const GIVEN_TO_NOBODY = { from: 10_000, count: 20_000 };

/** A port on which nobody listens, and which the kernel gives to nobody. */
export const freePort = async (): Promise<number> => {
  const { from, count } = GIVEN_TO_NOBODY;
  for (;;) {
    const port = from + Math.floor(Math.random() * count);
    const server = createServer();
    const isFree = await listen(server, port).then(
      () => true,
      () => false,
    );
    if (!isFree) continue;
    const closed = once(server, 'close');
    server.close();
    await closed;
    return port;
  }
};

/** Relays TCP to a URL's host and port. `changed` gives what the service gets for what a client has sent. */
export const startRelay = async (
  to: string,
  port = 0,
  changed: (piece: Buffer) => Buffer = (piece) => piece,
): Promise<Relay> => {
  const target = new URL(to);
  let [carried, asked] = [0, ''];
  let fault: { readonly kind: 'cut' | 'stall'; readonly at: number } | null = null;
  const server = createServer((client) => {
    const upstream = connect(Number(target.port), target.hostname);
    for (const socket of [client, upstream]) socket.on('error', () => {});
    client.on('data', (piece: Buffer) => {
      asked += piece.toString('latin1');
      upstream.write(changed(piece));
    });
    client.once('close', () => upstream.destroy());
    upstream.once('close', () => client.end());
    upstream.on('data', (piece: Buffer) => {
      const due = fault !== null && carried + piece.length > fault.at ? fault : null;
      const passed = due === null ? piece : piece.subarray(0, Math.max(0, due.at - carried));
      carried += passed.length;
      client.write(passed);
      if (due === null) return;
      fault = null;
      upstream.removeAllListeners('data').removeAllListeners('close').pause();
      if (due.kind === 'cut') client.end();
    });
  });
  const close = closer(server);
  const url = `http://127.0.0.1:${await listen(server, port)}`;
  return {
    url,
    close,
    carried: () => carried,
    cutAfter: (bytes) => void (fault = { kind: 'cut', at: carried + bytes }),
    stallAfter: (bytes) => void (fault = { kind: 'stall', at: carried + bytes }),
    asked: () => asked,
  };
};

/** A server that hears everything and says nothing. `reached` is settled once somebody has connected. */
export const startMute = async (
  wanted = 0,
): Promise<{
  port: number;
  reached: Promise<unknown>;
  close(): Promise<void>;
}> => {
  const server = createServer((socket) => void socket.on('error', () => {}).resume());
  const close = closer(server);
  const reached = once(server, 'connection');
  return { port: await listen(server, wanted), reached, close };
};

/** Hands a request on, and the answer back. */
const forward = (incoming: IncomingMessage, answer: ServerResponse, to: URL): void => {
  const { method = 'GET', headers } = incoming;
  const outgoing = request(to, { method, headers }, (response) => {
    answer.writeHead(response.statusCode ?? 0, response.headers);
    pipeline(response, answer, () => {});
  });
  pipeline(incoming, outgoing, () => {});
};

/** A gateway's own answers: to how many requests, with which status and headers, and to which method alone. */
export interface Refusals {
  readonly count: number;
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly method?: string;
}

/** A gateway that answers some requests with a status of its own and lets all others through. */
export const startGateway = async (
  to: string,
  { count, status, headers, method }: Refusals,
): Promise<{ url: string; refusalsLeft(): number; close(): Promise<void> }> => {
  let left = count;
  const server = createHttpServer((incoming, answer) => {
    if (left > 0 && (method === undefined || method === incoming.method)) {
      left -= 1;
      answer.writeHead(status, headers).end('not now');
      return;
    }
    forward(incoming, answer, new URL(incoming.url ?? '/', to));
  });
  const close = closer(server);
  return { url: `http://127.0.0.1:${await listen(server)}`, refusalsLeft: () => left, close };
};

/** A gateway that hands each request on once `before` has ended: also where its client has gone meanwhile, if it has no body. */
export const startHalting = async (
  to: string,
  before: (request: IncomingMessage) => Promise<void>,
): Promise<{ url: string; close(): Promise<void> }> => {
  const handOn = async (incoming: IncomingMessage, answer: ServerResponse): Promise<void> => {
    await before(incoming);
    const { method = 'GET', headers, url = '/' } = incoming;
    const outgoing = request(new URL(url, to), { method, headers }, (response) => {
      if (answer.destroyed) return void response.resume();
      answer.writeHead(response.statusCode ?? 0, response.headers);
      pipeline(response, answer, () => {});
    });
    outgoing.on('error', () => answer.destroy());
    if (method === 'PUT') pipeline(incoming, outgoing, () => {});
    else outgoing.end();
  };
  const server = createHttpServer((incoming, answer) => void handOn(incoming, answer));
  const close = closer(server);
  return { url: `http://127.0.0.1:${await listen(server)}`, close };
};

/** TLS before a service, as a reverse proxy does it: its certificate is for `kiln.test` and 127.0.0.1, from a CA of its own. */
export const startTls = async (
  to: string,
): Promise<{ port: number; ca: string; close(): Promise<void> }> => {
  const directory = await freshDirectory('ca');
  const at = (name: string): string => join(directory, name);
  const issue = (line: string): Promise<string> =>
    mustRun('openssl', `req -x509 -newkey ec -nodes -days 2 ${line}`.split(' '), {
      cwd: directory,
    });
  const curve = '-pkeyopt ec_paramgen_curve:P-256';
  await issue(`${curve} -subj /CN=ca -keyout ca.key -out ca.pem`);
  await issue(
    `${curve} -subj /CN=kiln -keyout key.pem -out cert.pem -CA ca.pem -CAkey ca.key ` +
      '-addext subjectAltName=DNS:kiln.test,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE',
  );
  const credentials = { key: await readFile(at('key.pem')), cert: await readFile(at('cert.pem')) };
  const server = createHttpsServer(credentials, (incoming, answer) => {
    forward(incoming, answer, new URL(incoming.url ?? '/', to));
  });
  const close = closer(server);
  return { port: await listen(server), ca: at('ca.pem'), close };
};

/** An HTTP proxy that wants credentials. */
export interface TestProxy {
  readonly port: number;
  /** What was asked of it, in order: `CONNECT kiln.test:443`, `GET http://…`. */
  readonly served: readonly string[];
  close(): Promise<void>;
}

/** An HTTP proxy for `user:password`, which finds every host on 127.0.0.1. */
export const startHttpProxy = async (credentials: string): Promise<TestProxy> => {
  const served: string[] = [];
  const wanted = `Basic ${Buffer.from(credentials).toString('base64')}`;
  const server = createHttpServer((incoming, answer) => {
    if (incoming.headers['proxy-authorization'] !== wanted) {
      answer.writeHead(407, { 'Proxy-Authenticate': 'Basic' }).end();
      return;
    }
    served.push(`${incoming.method ?? ''} ${incoming.url ?? ''}`);
    const target = new URL(incoming.url ?? '');
    target.hostname = '127.0.0.1';
    delete incoming.headers['proxy-authorization'];
    forward(incoming, answer, target);
  });
  server.on('connect', (incoming, client: Socket) => {
    client.on('error', () => {});
    if (incoming.headers['proxy-authorization'] !== wanted) {
      client.end('HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n');
      return;
    }
    served.push(`CONNECT ${incoming.url ?? ''}`);
    const upstream = connect(Number((incoming.url ?? '').split(':').at(-1)), '127.0.0.1', () => {
      client.write('HTTP/1.1 200 Connection established\r\n\r\n');
      pipeline(client, upstream, client, () => {});
    });
    upstream.on('error', () => client.destroy());
  });
  const close = closer(server);
  return { port: await listen(server), served, close };
};
