import { z } from 'zod';
import { isErrorCode, type ErrorCode } from '../errors.ts';

/** A code of `core/errors.ts`. */
export const errorCode = z.custom<ErrorCode>(
  (value) => typeof value === 'string' && isErrorCode(value),
);

/** RFC 9457, `application/problem+json`; `code` is one of `core/errors.ts`. */
export const Problem = z.object({
  type: z.string(),
  title: z.string(),
  status: z.number(),
  detail: z.string(),
  code: errorCode,
});
export type Problem = z.infer<typeof Problem>;
