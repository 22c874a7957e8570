import { Agent, request, type ClientRequest, type IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { z } from 'zod';
import { KilnError } from '../../services/core/errors.ts';
import { Problem } from '../../services/core/protocol/problem.ts';
import { openConnection, proxyRefused, trustedBy, type Way } from './connection.ts';
import { CallFailed, connectionFailed, statusFault, timedOut } from './fault.ts';
import { chooseProxy, type ProxySettings } from './proxy.ts';

/** One request to the service. */
export interface Call {
  readonly method: 'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE';
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | { readonly open: () => Readable; readonly size: number };
  readonly signal?: AbortSignal;
  /** Milliseconds without a byte received after which the connection is ended. */
  readonly idle?: number;
}

/** Sends a call to one service, with one token, once: `retry.ts` repeats it. */
export type Send = (call: Call) => Promise<IncomingMessage>;

/** The network between this host and a service: its proxies, and the CAs to trust. */
export interface Network {
  readonly proxies: ProxySettings;
  /** PEM file of CAs that https is trusted by, besides the system's. */
  readonly ca: string | null;
}

const IDLE = 60_000;

/**
 * Makes the sender for a service. A refusal becomes the `KilnError` that the service meant, a missing answer a `CallFailed`.
 * Throws `bad-request` for a malformed address.
 */
export const connect = (server: string, token: string | null, network: Network): Send => {
  const base = serviceAddress(server);
  const trusted = base.protocol === 'https:' ? trustedBy(network.ca) : null;
  const way: Way = { server: base, proxy: chooseProxy(base, network.proxies), trusted };
  const agent = new Agent({ keepAlive: true });
  agent.createConnection = (_options, done) => {
    openConnection(way).then(
      (socket) => done?.(null, socket),
      (error: Error) => done?.(error, undefined as never),
    );
    return undefined;
  };
  return async (call) => {
    const response = await open(way, agent, token, call);
    const status = response.statusCode ?? 0;
    if (status >= 200 && status < 300) return response;
    throw await asError(response, call, way);
  };
};

/** A service's address. It may have a path, to which a `/` is added at the end. Throws `bad-request` for a malformed one. */
const serviceAddress = (text: string): URL => {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !/^https?:$/.test(url.protocol))
    throw new KilnError(
      'bad-request',
      `${JSON.stringify(text)} is no service address; use http://HOST:PORT or https://HOST, with the path that a reverse proxy has it below`,
    );
  // The message does not repeat the address: it may hold a password.
  if (url.username + url.password + url.search + url.hash !== '')
    throw new KilnError(
      'bad-request',
      'a service address has no user, query or fragment; the token’s file is named with --token-file',
    );
  if (!url.pathname.endsWith('/')) url.pathname += '/';
  return url;
};

/** The proxy that forwards calls itself (plain http), or `null` where it only carries a tunnel or there is none. */
const forwarder = ({ server, proxy }: Way): Way['proxy'] =>
  server.protocol === 'http:' ? proxy : null;

const headersOf = (way: Way, token: string | null, call: Call): Record<string, string | number> => {
  const { body } = call;
  const headers: Record<string, string | number> = {
    Host: way.server.host,
    'User-Agent': 'kiln',
    ...call.headers,
  };
  if (token !== null) headers['Authorization'] = `Bearer ${token}`;
  const credentials = forwarder(way)?.authorization ?? null;
  if (credentials !== null) headers['Proxy-Authorization'] = credentials;
  if (typeof body === 'string') {
    headers['Content-Type'] = 'application/json';
    headers['Content-Length'] = Buffer.byteLength(body);
  } else if (body !== undefined) {
    headers['Content-Type'] = 'application/octet-stream';
    headers['Content-Length'] = body.size;
    headers['Expect'] = '100-continue';
  }
  return headers;
};

const open = (way: Way, agent: Agent, token: string | null, call: Call): Promise<IncomingMessage> =>
  new Promise((resolve, reject) => {
    const { body } = call;
    const target = new URL(`.${call.path}`, way.server);
    const outgoing = request({
      method: call.method,
      host: target.hostname,
      path: forwarder(way) === null ? `${target.pathname}${target.search}` : target.href,
      headers: headersOf(way, token, call),
      agent,
      ...(call.signal === undefined ? {} : { signal: call.signal }),
    });
    let response: IncomingMessage | null = null;
    outgoing.setTimeout(call.idle ?? IDLE, () => (response ?? outgoing).destroy(timedOut()));
    outgoing.once('response', (incoming) => {
      response = incoming;
      resolve(incoming);
    });
    outgoing.on('error', (cause) => {
      // A refusal may arrive while the body is still being sent: the answer counts then, not the broken pipe.
      if (response !== null) return;
      const isAbort = call.signal?.aborted === true;
      reject(isAbort ? cause : connectionFailed(cause, way.server.origin, true));
    });
    if (body === undefined || typeof body === 'string') outgoing.end(body);
    else sendWhenTaken(outgoing, body.open);
  });

/** Milliseconds that an upload waits for `100 Continue`, which not all servers send. */
const UNTIL_TAKEN = 1000;

/** Sends a body after `100 Continue`, or after `UNTIL_TAKEN` without it, so that most refusals come before the bytes are sent. */
const sendWhenTaken = (outgoing: ClientRequest, openBody: () => Readable): void => {
  let isSent = false;
  const sendBody = (): void => {
    if (isSent) return;
    isSent = true;
    pipeline(openBody(), outgoing).catch(() => {});
  };
  const timer = setTimeout(sendBody, UNTIL_TAKEN);
  outgoing.once('continue', sendBody);
  outgoing.once('close', () => clearTimeout(timer));
  outgoing.once('response', (answer: IncomingMessage) => {
    clearTimeout(timer);
    // A server that refused before the body still expects the body on this connection, so the connection is ended.
    if (!isSent) answer.once('end', () => outgoing.destroy());
  });
  outgoing.flushHeaders();
};

const asError = async (response: IncomingMessage, call: Call, way: Way): Promise<KilnError> => {
  const status = response.statusCode ?? 0;
  const fault = statusFault(status, response.headers['retry-after']);
  const text = await readText(response).catch(() => '');
  const problem = problemIn(text);
  if (problem !== null) {
    const { code, detail } = problem;
    return fault === null ? new KilnError(code, detail) : new CallFailed(code, detail, fault);
  }
  if (status === 404)
    return new KilnError(
      'not-found',
      `${way.server.href} has no ${call.path.slice(1)}; is it Kiln, and is the address’s path right?`,
    );
  if (status === 413) return new KilnError('too-large', bodyRefused(call));
  const elsewhere = redirection(response, call, way);
  if (elsewhere !== null) return new KilnError('unreachable', elsewhere);
  const proxy = forwarder(way);
  if (proxy !== null && fault === null) return proxyRefused(proxy, status);
  const message = `the service answered ${call.method} ${call.path} with status ${status}; is it Kiln?`;
  return fault === null
    ? new KilnError('unreachable', message)
    : new CallFailed('unreachable', message, fault);
};

/** The message where a proxy on the way refuses a body for its size. */
const bodyRefused = ({ body, method, path }: Call): string => {
  const size = typeof body === 'string' ? Buffer.byteLength(body) : (body?.size ?? 0);
  return `a proxy before the service refuses ${method} ${path} for its ${size} bytes; have who runs it raise its limit (in nginx: client_max_body_size 0)`;
};

/** The message about a redirection; `null` where the answer is none. Redirections are not followed: the token is for one address. */
const redirection = (
  { statusCode = 0, headers: { location } }: IncomingMessage,
  { path }: Call,
  { server }: Way,
): string | null => {
  if (![301, 302, 303, 307, 308].includes(statusCode)) return null;
  const told = `${server.href} answers with a redirection (status ${statusCode}), which Kiln does not follow`;
  const target =
    location !== undefined && URL.canParse(location, server.href)
      ? new URL(location, server)
      : null;
  if (target === null || !/^https?:$/.test(target.protocol)) return `${told}; is it Kiln?`;
  const { origin, pathname } = target;
  const asked = (path.split('?')[0] ?? '').slice(1);
  const below = pathname.endsWith(asked) ? pathname.slice(0, -asked.length) : pathname;
  const place = `${origin}${below}`;
  return `${told}; if ${place} is your Kiln, give that address (kiln setup ${place})`;
};

const problemIn = (text: string): Problem | null => {
  try {
    return Problem.parse(JSON.parse(text));
  } catch {
    return null;
  }
};

/** Parses JSON from the service by a schema. Throws `unreachable` where it does not match. */
export const understand = <T extends z.ZodType>(schema: T, text: string): z.output<T> => {
  try {
    return schema.parse(JSON.parse(text));
  } catch (cause) {
    throw new KilnError(
      'unreachable',
      'the service’s answer is not understood; is it a Kiln of this version?',
      { cause },
    );
  }
};

const TEXT_LIMIT = 64 * 1024 * 1024;

/** A response's whole text, of at most 64 MiB. */
export const readText = async (response: Readable): Promise<string> =>
  (await readBytes(response, TEXT_LIMIT)).toString('utf8');

/** A response's whole body. Throws `too-large` beyond `limit` bytes, `CallFailed` if it breaks off. */
export const readBytes = async (response: Readable, limit: number): Promise<Buffer> => {
  const pieces: Buffer[] = [];
  let size = 0;
  for await (const piece of readPieces(response)) {
    size += piece.length;
    if (size > limit) throw new KilnError('too-large', `the service sent over ${limit} bytes`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
};

/** A response's body, piece by piece. Throws `CallFailed` if it breaks off. */
export async function* readPieces(response: Readable): AsyncGenerator<Buffer> {
  try {
    yield* response as AsyncIterable<Buffer>;
  } catch (cause) {
    if (cause instanceof Error && cause.name === 'AbortError') throw cause;
    throw connectionFailed(cause, 'the service', true);
  }
}
