import type { ErrorRequestHandler, Request, Response } from 'express';
import { ZodError } from 'zod';
import { errorMeaning, httpStatus, KilnError, type ErrorCode } from '../../core/errors.ts';
import type { Problem } from '../../core/protocol/problem.ts';
import type { Log } from '../../storage/log.ts';
import { sendWhole } from './unread.ts';

/** Turns errors into answers (RFC 9457), for all routes. An error that is no `KilnError` is a defect: its details go to the log alone. */
export const answerErrors =
  (log: Log): ErrorRequestHandler =>
  (error: unknown, request, response, next) => {
    const known = asKilnError(error);
    if (isHungUp(error, request, response)) return;
    if (known.code === 'internal') log.error({ err: error, path: request.path }, 'defect');
    if (response.headersSent) {
      response.destroy();
      next();
      return;
    }
    if (known.retryAfter !== null) response.setHeader('Retry-After', known.retryAfter);
    sendProblem(response, known.code, known.message);
  };

const BROKEN: readonly unknown[] = [
  'ABORT_ERR',
  'ECONNABORTED',
  'ECONNRESET',
  'EPIPE',
  'ERR_STREAM_PREMATURE_CLOSE',
  'ERR_STREAM_UNABLE_TO_PIPE',
];

/** Whether the client has ended the connection, so that there is nobody to answer. */
const isHungUp = (error: unknown, request: Request, response: Response): boolean => {
  const isBroken =
    error instanceof Error &&
    (('code' in error && BROKEN.includes(error.code)) ||
      ('type' in error && error.type === 'request.aborted'));
  return isBroken && (response.destroyed || request.destroyed);
};

/** A problem document (RFC 9457). */
export const problemOf = (code: ErrorCode, detail: string): Problem => ({
  type: `urn:kiln:error:${code}`,
  title: errorMeaning(code),
  status: httpStatus(code),
  detail,
  code,
});

/** Answers with a problem document. */
export const sendProblem = (response: Response, code: ErrorCode, detail: string): void => {
  if (code === 'unauthenticated') response.setHeader('WWW-Authenticate', 'Bearer');
  response.status(httpStatus(code)).type('application/problem+json');
  sendWhole(response, JSON.stringify(problemOf(code, detail)));
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
      return new KilnError(
        'bad-request',
        'the body is not valid JSON; correct it and send it again',
      );
    if (error.type === 'entity.too.large' && 'limit' in error)
      return new KilnError(
        'too-large',
        `the body is over ${String(error.limit)} bytes, the limit of this request; ask for fewer things at once, and send tarballs as blobs`,
      );
    if ('status' in error && Number(error.status) < 500)
      return new KilnError(
        'bad-request',
        'the body is not understood; send JSON in UTF-8, as many bytes as announced',
      );
  }
  if (error instanceof URIError)
    return new KilnError(
      'bad-request',
      'the path is not properly percent-encoded; encode it as RFC 3986 has it',
    );
  return new KilnError('internal', 'this is a defect in Kiln; the service’s log has the details', {
    cause: error,
  });
};
