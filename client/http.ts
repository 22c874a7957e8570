import { request as plainRequest, type IncomingMessage } from 'node:http';
import { request as secureRequest } from 'node:https';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { KilnError } from '../services/core/errors.ts';
import { Problem } from '../services/core/protocol.ts';

/** One request to the service. */
export interface Call {
  readonly method: 'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE';
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | { readonly stream: Readable; readonly size: number };
  readonly signal?: AbortSignal;
  /** Ends a connection on which nothing has come for so many milliseconds. */
  readonly idle?: number;
}

/** Sends calls to one service, with one token. */
export type Send = (call: Call) => Promise<IncomingMessage>;

const IDLE = 60_000;

/** Makes the sender for a service. A refusal becomes the `KilnError` that the service meant; silence becomes `unreachable`. */
export const connect = (server: string, token: string | null): Send => {
  const base = URL.canParse(server) ? new URL(server) : null;
  if (base === null || !/^https?:$/.test(base.protocol)) {
    throw new KilnError(
      'bad-request',
      `${JSON.stringify(server)} is no service address; use http://HOST:PORT or https://HOST`,
    );
  }
  return async (call) => {
    const response = await open(base, token, call);
    const status = response.statusCode ?? 0;
    if (status >= 200 && status < 300) return response;
    throw await asError(response, call);
  };
};

const open = (base: URL, token: string | null, call: Call): Promise<IncomingMessage> =>
  new Promise((resolve, reject) => {
    const { body } = call;
    const headers: Record<string, string | number> = { 'User-Agent': 'kiln', ...call.headers };
    if (token !== null) headers['Authorization'] = `Bearer ${token}`;
    if (typeof body === 'string') {
      headers['Content-Type'] = 'application/json';
      headers['Content-Length'] = Buffer.byteLength(body);
    } else if (body !== undefined) {
      headers['Content-Type'] = 'application/octet-stream';
      headers['Content-Length'] = body.size;
    }
    const send = base.protocol === 'https:' ? secureRequest : plainRequest;
    const options = {
      method: call.method,
      headers,
      ...(call.signal === undefined ? {} : { signal: call.signal }),
    };
    const outgoing = send(new URL(call.path, base), options);
    let response: IncomingMessage | null = null;
    outgoing.setTimeout(call.idle ?? IDLE, () =>
      outgoing.destroy(new Error('nothing came for too long')),
    );
    outgoing.once('response', (incoming) => {
      response = incoming;
      resolve(incoming);
    });
    outgoing.on('error', (cause) => {
      // A refusal may come before all of the body went out; then the answer counts, not the broken pipe.
      if (response !== null) return;
      const isAbort = call.signal?.aborted === true;
      reject(
        isAbort
          ? cause
          : new KilnError(
              'unreachable',
              `${base.origin} does not answer (${cause.message}); is kilnd running there?`,
              { cause },
            ),
      );
    });
    if (body === undefined || typeof body === 'string') outgoing.end(body);
    else pipeline(body.stream, outgoing).catch(() => {});
  });

const asError = async (response: IncomingMessage, call: Call): Promise<KilnError> => {
  const text = await readText(response).catch(() => '');
  try {
    const { code, detail } = Problem.parse(JSON.parse(text));
    return new KilnError(code, detail);
  } catch {
    if (response.statusCode === 404) return new KilnError('not-found', `${call.path} is not there`);
    return new KilnError(
      'unreachable',
      `the service answered ${call.method} ${call.path} with status ${response.statusCode ?? 0}; is it Kiln?`,
    );
  }
};

const TEXT_LIMIT = 64 * 1024 * 1024;

/** A response's whole text, of at most 64 MiB. */
export const readText = async (response: Readable): Promise<string> =>
  (await readBytes(response, TEXT_LIMIT)).toString('utf8');

/** A response's whole body. Throws `too-large` beyond `limit` bytes. */
export const readBytes = async (response: Readable, limit: number): Promise<Buffer> => {
  const pieces: Buffer[] = [];
  let size = 0;
  for await (const piece of response as AsyncIterable<Buffer>) {
    size += piece.length;
    if (size > limit) throw new KilnError('too-large', `the service sent over ${limit} bytes`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
};
