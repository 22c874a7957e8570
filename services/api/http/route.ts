import express, { type Request, type RequestHandler, type Response } from 'express';
import { z } from 'zod';
import { isDigest, type Digest } from '../../core/digest.ts';
import { KilnError } from '../../core/errors.ts';
import type { Role } from '../../core/policy/policy.ts';
import { PageQuery } from '../../core/protocol/parts.ts';
import type { ApiDeps } from './deps.ts';
import { authenticate, type Caller } from '../record/tokens.ts';
import { watchPace } from './pace.ts';

/** The input of a route's handler: the caller and the checked body; `param` reads a path parameter. */
export interface Asked<Body> {
  readonly caller: Caller;
  readonly body: Body;
  readonly request: Request;
  readonly response: Response;
  param(name: string): string;
  digest(name: string): Digest;
  /** The page of a list that is asked for. */
  page(): PageQuery;
}

/** An answer: a status and JSON. A handler that answers by itself gives `null`. */
export type Answer = { readonly status: number; readonly json: unknown } | null;

/** The schema of a request that has no body, or one that its handler reads. */
export const NO_BODY = z.unknown();

/** Bytes of a request's JSON: ample for one build or source with all the settings it may bring. */
const BODY_LIMIT = 256 * 1024;

/** Answers 200 with JSON. */
export const ok = (json: unknown): Answer => ({ status: 200, json });

/** A route for whoever reaches the service. */
export const openRoute = (
  handle: (request: Request, response: Response) => Promise<void>,
): RequestHandler => handle;

/** Admits callers that have the role, before any of the body is read or asked for. Throws `unauthenticated` or `forbidden`. */
const admit =
  (deps: ApiDeps, role: Role): RequestHandler =>
  async (request, response, next) => {
    const { authorization, expect } = request.headers;
    response.locals['caller'] = await authenticate(
      deps.db,
      deps.now(),
      authorization,
      role,
      deps.memory,
    );
    watchPace(request, response, deps.pace);
    if (expect !== undefined) response.writeContinue();
    next();
  };

/**
 * A route's steps: it authenticates, reads JSON and checks it against its schema, handles, answers. Failures go to `answerErrors`.
 * A body is read as JSON only where there is a schema for it.
 */
export const route = <Schema extends z.ZodType>(
  deps: ApiDeps,
  role: Role,
  schema: Schema,
  handle: (asked: Asked<z.output<Schema>>) => Promise<Answer>,
  bodyLimit: number = BODY_LIMIT,
): RequestHandler[] => [
  admit(deps, role),
  ...(Object.is(schema, NO_BODY) ? [] : [express.json({ limit: bodyLimit })]),
  answer(schema, handle),
];

const answer =
  <Schema extends z.ZodType>(
    schema: Schema,
    handle: (asked: Asked<z.output<Schema>>) => Promise<Answer>,
  ): RequestHandler =>
  async (request, response) => {
    const caller = response.locals['caller'] as Caller;
    const param = (name: string): string => {
      const value = request.params[name];
      return typeof value === 'string' ? value : '';
    };
    const answered = await handle({
      caller,
      body: schema.parse(request.body ?? {}),
      request,
      response,
      param,
      page: () => PageQuery.parse(request.query),
      digest(name) {
        const text = param(name);
        if (!isDigest(text))
          throw new KilnError(
            'bad-request',
            `${JSON.stringify(text.slice(0, 80))} is not a digest; give sha256: and 64 hex digits`,
          );
        return text;
      },
    });
    if (answered !== null) response.status(answered.status).json(answered.json);
  };
