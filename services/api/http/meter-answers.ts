import type { RequestHandler } from 'express';
import type { Meters } from '../../storage/meters.ts';

/** What may follow /v1, and what else there is: a label has no values that a caller makes up. */
const KNOWN: ReadonlySet<string> = new Set(
  `archives artifacts blobs builds kernels misses names packages rebuilds repositories resolve signers sources sync tokens toolchains
   withdrawals repo healthz readyz`.split(/\s+/),
);
const METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'POST', 'PUT', 'DELETE']);

/** Times all answers but streams of events, which last as long as a build. */
export const meterAnswers =
  (meters: Meters): RequestHandler =>
  (request, response, next) => {
    const began = performance.now();
    const words = request.path.split('/').slice(1);
    const [first = '', second = '', , last] = words;
    const word = first === 'v1' ? second : first;
    if (last !== 'events')
      response.once('close', () =>
        meters.time('kiln_http_seconds', (performance.now() - began) / 1000, {
          method: METHODS.has(request.method) ? request.method : 'other',
          path: KNOWN.has(word) ? word : 'other',
          status: `${Math.floor(response.statusCode / 100)}xx`,
        }),
      );
    next();
  };
