import type { Request, RequestHandler, Response } from 'express';
import { z } from 'zod';
import { isDigest, type Digest } from '../../core/digest.ts';
import { KilnError } from '../../core/errors.ts';
import type { Role } from '../../core/policy.ts';
import type { ApiDeps } from './deps.ts';
import { authenticate, type Caller } from '../record/tokens.ts';

/** What a route's handler gets: the caller and the checked body; `param` reads a path parameter. */
export interface Asked<Body> {
  readonly caller: Caller;
  readonly body: Body;
  readonly request: Request;
  readonly response: Response;
  param(name: string): string;
  digest(name: string): Digest;
}

/** An answer: a status and JSON. A handler that answers by itself gives `null`. */
export type Answer = { readonly status: number; readonly json: unknown } | null;

/** The schema of a request that has no body. */
export const NO_BODY = z.unknown();

/** Answers 200 with JSON. */
export const ok = (json: unknown): Answer => ({ status: 200, json });

/** Lets those go on who have a role, before anything else of their request is read. Throws `unauthenticated` or `forbidden`. */
export const admit =
  (deps: ApiDeps, role: Role): RequestHandler =>
  async (request, _response, next) => {
    await authenticate(deps.db, deps.now(), request.headers.authorization, role);
    next();
  };

/** Authenticates, checks the body against its schema, handles, answers. Failures go to `answerErrors`. */
export const route =
  <Schema extends z.ZodType>(
    deps: ApiDeps,
    role: Role,
    schema: Schema,
    handle: (asked: Asked<z.output<Schema>>) => Promise<Answer>,
  ): RequestHandler =>
  async (request, response) => {
    const caller = await authenticate(deps.db, deps.now(), request.headers.authorization, role);
    const param = (name: string): string => {
      const value = request.params[name];
      return typeof value === 'string' ? value : '';
    };
    const answer = await handle({
      caller,
      body: schema.parse(request.body ?? {}),
      request,
      response,
      param,
      digest(name) {
        const text = param(name);
        if (!isDigest(text))
          throw new KilnError(
            'bad-request',
            `${JSON.stringify(text.slice(0, 80))} is no digest; it is sha256: and 64 hex digits`,
          );
        return text;
      },
    });
    if (answer !== null) response.status(answer.status).json(answer.json);
  };
