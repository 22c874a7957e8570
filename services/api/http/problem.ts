import type { ErrorRequestHandler, Response } from 'express';
import { ZodError } from 'zod';
import { errorMeaning, httpStatus, KilnError, type ErrorCode } from '../../core/errors.ts';
import type { Problem } from '../../core/protocol.ts';
import type { Log } from '../../storage/log.ts';

/** The one place where an error becomes an answer: RFC 9457. What is not a `KilnError` is a defect and says nothing of itself. */
export const answerErrors =
  (log: Log): ErrorRequestHandler =>
  (error: unknown, request, response, next) => {
    const known = asKilnError(error);
    if (known.code === 'internal') log.error({ err: error, path: request.path }, 'defect');
    if (response.headersSent) {
      response.destroy();
      next();
      return;
    }
    // What is left of a refused upload is not read: the connection cannot be used again.
    if (!request.complete) response.setHeader('Connection', 'close');
    sendProblem(response, known.code, known.message);
  };

/** Answers with a problem document. */
export const sendProblem = (response: Response, code: ErrorCode, detail: string): void => {
  const status = httpStatus(code);
  const problem: Problem = {
    type: `urn:kiln:error:${code}`,
    title: errorMeaning(code),
    status,
    detail,
    code,
  };
  if (code === 'unauthenticated') response.setHeader('WWW-Authenticate', 'Bearer');
  response.status(status).type('application/problem+json').send(JSON.stringify(problem));
};

const asKilnError = (error: unknown): KilnError => {
  if (error instanceof KilnError) return error;
  if (error instanceof ZodError) {
    const [issue] = error.issues;
    return new KilnError(
      'bad-request',
      `${issue?.path.join('.') || 'the request'}: ${issue?.message ?? 'not understood'}`,
    );
  }
  if (error instanceof Error && 'type' in error) {
    if (error.type === 'entity.parse.failed')
      return new KilnError('bad-request', 'the body is no JSON');
    if (error.type === 'entity.too.large' && 'limit' in error)
      return new KilnError(
        'too-large',
        `the body is over ${String(error.limit)} bytes, the limit of this request; ask for fewer things at once, and send archives as blobs`,
      );
  }
  if (error instanceof URIError)
    return new KilnError('bad-request', 'the path is not properly encoded');
  return new KilnError('internal', 'this is a defect in Kiln; the service’s log has the details', {
    cause: error,
  });
};
