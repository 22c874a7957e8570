import type { Request, Response } from 'express';
import { sendProblem } from './problem.ts';

/** How fast a request must come: its headers within so many seconds, and in each such time as many bytes of its body as `rate` a second make. */
export interface Pace {
  readonly seconds: number;
  readonly rate: number;
}

/** Ends a request whose body comes too slowly. What waits here to be stored is not the sender's delay. */
export const watchPace = (request: Request, response: Response, { seconds, rate }: Pace): void => {
  if (request.complete) return;
  const { socket } = request;
  let before = socket.bytesRead;
  const timer = setInterval(() => {
    const came = socket.bytesRead - before;
    before += came;
    if (request.complete || response.headersSent) clearInterval(timer);
    else if (came < rate * seconds && request.readableLength === 0) {
      clearInterval(timer);
      const slow = `less than ${rate} bytes a second came of it, the least that this service waits for; send it again`;
      sendProblem(response, 'too-slow', slow);
    }
  }, seconds * 1000);
  timer.unref();
  response.once('close', () => clearInterval(timer));
};
