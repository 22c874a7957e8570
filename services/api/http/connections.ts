import { createServer, type RequestListener, type Server } from 'node:http';
import type { Socket } from 'node:net';
import { errorMeaning, httpStatus } from '../../core/errors.ts';
import type { Pace } from './pace.ts';
import { problemOf } from './problem.ts';

/** Limits on the connections to the service. */
export interface ConnectionLimits {
  /** Open connections, in all and from one address. */
  readonly connections: number;
  readonly addressConnections: number;
  readonly pace: Pace;
}

/** Milliseconds without traffic after which a connection is ended. */
const IDLE = 120_000;
/** Milliseconds that a connection may wait for its next request. */
const KEPT = 15_000;
const REQUESTS_OF_ONE = 10_000;
const GRACE = 1_000;

/** An HTTP server that answers with `handle`, within limits. A connection over the limit gets an answer that says so, and is ended. */
export const boundedServer = (handle: RequestListener, limits: ConnectionLimits): Server => {
  const excess = new WeakSet<Socket>();
  const headers = limits.pace.seconds * 1000;
  const listener: RequestListener = (request, response) => {
    if (!excess.has(request.socket)) handle(request, response);
  };
  const server = createServer(
    {
      headersTimeout: headers,
      // A whole request has no deadline: `pace.ts` watches how fast its body comes.
      requestTimeout: 0,
      keepAliveTimeout: KEPT,
      connectionsCheckingInterval: Math.min(headers, 5_000),
    },
    listener,
  );
  // A client that expects `100 Continue` gets it from the route that reads the body, and sends none otherwise.
  server.on('checkContinue', listener);
  server.timeout = IDLE;
  server.maxRequestsPerSocket = REQUESTS_OF_ONE;
  // Connections over the limit are answered, up to as many again; beyond that Node closes them unanswered.
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
          ? `${limits.connections} connections are open, the limit of this service; try again in some seconds`
          : `${limits.addressConnections} connections from your address are open, the limit of this service; try again when others have ended`,
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
