import type { Request, Response } from 'express';
import { sendProblem } from './problem.ts';

/** The least pace of a request: its headers within `seconds`, and then in each `seconds` at least `rate` bytes of body a second. */
export interface Pace {
  readonly seconds: number;
  readonly rate: number;
}

/** Ends a request whose body comes too slowly. Time that the service itself takes to store bytes does not count. */
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
      const slow = `the request came at less than ${rate} bytes a second, the least that this service takes; send it again`;
      sendProblem(response, 'too-slow', slow);
    }
  }, seconds * 1000);
  timer.unref();
  response.once('close', () => clearInterval(timer));
};
