import { createServer, type RequestListener, type Server } from 'node:http';
import type { Socket } from 'node:net';
import { errorMeaning, httpStatus } from '../../core/errors.ts';
import type { Pace } from './pace.ts';
import { problemOf } from './problem.ts';

/** What all connections together may take of the service. */
export interface ConnectionLimits {
  /** At once, in all and from one address. */
  readonly connections: number;
  readonly addressConnections: number;
  readonly pace: Pace;
}

/** One that nothing is sent on or read from, in milliseconds. */
const IDLE = 120_000;
/** One that waits for its next request, in milliseconds. */
const KEPT = 15_000;
const REQUESTS_OF_ONE = 10_000;
const GRACE = 1_000;

/** An HTTP server that answers with `handle`, within limits. A connection over them is told so and ended. */
export const boundedServer = (handle: RequestListener, limits: ConnectionLimits): Server => {
  const excess = new WeakSet<Socket>();
  const headers = limits.pace.seconds * 1000;
  const listener: RequestListener = (request, response) => {
    if (!excess.has(request.socket)) handle(request, response);
  };
  const server = createServer(
    {
      headersTimeout: headers,
      // A body may take as long as its bytes come at the pace.
      requestTimeout: 0,
      keepAliveTimeout: KEPT,
      connectionsCheckingInterval: Math.min(headers, 5_000),
    },
    listener,
  );
  // Whoever waits to be told so sends a body only if it is wanted.
  server.on('checkContinue', listener);
  server.timeout = IDLE;
  server.maxRequestsPerSocket = REQUESTS_OF_ONE;
  // Those over the limit are told, but not without end.
  server.maxConnections = limits.connections * 2;

  let open = 0;
  const byAddress = new Map<string, number>();
  server.on('connection', (socket) => {
    const address = socket.remoteAddress ?? '';
    const ofAddress = (byAddress.get(address) ?? 0) + 1;
    if (open >= limits.connections || ofAddress > limits.addressConnections) {
      excess.add(socket);
      refuse(
        socket,
        open >= limits.connections
          ? `${limits.connections} connections are open, the limit of this service; come again in some seconds`
          : `${limits.addressConnections} connections from your address are open, the limit of this service; come again when others have ended`,
      );
      return;
    }
    open += 1;
    byAddress.set(address, ofAddress);
    socket.once('close', () => {
      open -= 1;
      const left = (byAddress.get(address) ?? 1) - 1;
      if (left === 0) byAddress.delete(address);
      else byAddress.set(address, left);
    });
  });
  return server;
};

const refuse = (socket: Socket, detail: string): void => {
  const text = JSON.stringify(problemOf('too-many', detail));
  socket.end(
    `HTTP/1.1 ${httpStatus('too-many')} ${errorMeaning('too-many')}\r\nContent-Type: application/problem+json\r\nRetry-After: 2\r\nConnection: close\r\nContent-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`,
  );
  setTimeout(() => socket.destroy(), GRACE).unref();
};
