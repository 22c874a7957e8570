import { z } from 'zod';
import { KilnError } from '../core/errors.ts';
import { parseRedisAddress } from './redis.ts';

/** How config files read the environment: one schema a role, every setting with its default, one sentence for what is wrong. */

/** Reads settings from environment variables. Throws `KilnError('bad-request')` naming the variable. */
export const readSettings = <T extends z.ZodRawShape>(
  shape: T,
  environment: Readonly<Record<string, string | undefined>>,
): z.infer<z.ZodObject<T>> => {
  const result = z.object(shape).safeParse(environment);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new KilnError(
    'bad-request',
    `setting ${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'not understood'}`,
  );
};

/** A whole number of at least `min`. */
export const whole = (fallback: number, min = 1) =>
  z.coerce.number().int().min(min).default(fallback);

/** What every role is told. */
export const COMMON_SETTINGS = {
  KILN_REDIS: z.string().transform((text) => parseRedisAddress(text)),
  KILN_PREFIX: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,40}$/)
    .default('kiln'),
  KILN_BLOBS: z.string().min(1),
  KILN_LOG_LEVEL: z.enum(['debug', 'info', 'warn', 'error', 'silent']).default('info'),
};
