import type { RequestHandler, Response } from 'express';

/** How long a refused sender may take to see the answer before its connection ends, in milliseconds. */
const GRACE = 1_000;

/**
 * Sends a text as the whole answer. Where the request is not read to its end, its connection ends a moment later: closed at once,
 * with bytes on the way, the answer would be lost with it.
 */
export const sendWhole = (response: Response, text: string): void => {
  const { req: request } = response;
  response.setHeader('Content-Length', Buffer.byteLength(text));
  if (request.complete || request.method === 'HEAD') {
    response.end(text);
    return;
  }
  response.setHeader('Connection', 'close');
  response.write(text);
  const end = setTimeout(() => response.end(), GRACE);
  response.once('close', () => clearTimeout(end));
};

/** Ends the connection of a request that has its answer and still sends. */
export const endUnread: RequestHandler = (request, response, next) => {
  response.once('finish', () => {
    if (request.complete) return;
    const { socket } = request;
    setTimeout(() => {
      if (!request.complete) socket?.destroy();
    }, GRACE).unref();
  });
  next();
};
