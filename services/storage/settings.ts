import { readFileSync } from 'node:fs';
import { z } from 'zod';
import type { Identity } from '../core/jobs/envelope.ts';
import { KilnError } from '../core/errors.ts';
import { parseMetricsAddress } from './meters.ts';
import { blobPlace, DEFAULT_REGION, type BlobPlace, type BlobSettings } from './blob-place.ts';
import { readIdentity } from './identity.ts';
import { parseRedisAddress, type RedisAddress } from './redis.ts';

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

/** Settings by the names of their environment variables. */
export type SettingsShape = Readonly<Record<string, z.ZodType>>;

/** Settings and what each means, for people: name, meaning, and its default where it has one. */
export const describeSettings = (
  shape: SettingsShape,
): readonly { readonly name: string; readonly words: string }[] =>
  Object.entries(shape).map(([name, schema]) => {
    const { success, data } = schema.safeParse(undefined);
    const isPlain = typeof data === 'string' || typeof data === 'number';
    const otherwise = !success ? 'must be set' : isPlain ? `default ${data}` : null;
    return {
      name,
      words: `${schema.description ?? ''}${otherwise === null ? '' : ` (${otherwise})`}`,
    };
  });

/** A whole number of at least `min`. */
export const whole = (fallback: number, min = 1) =>
  z.coerce.number().int().min(min).default(fallback);

/** Where a role that listens gives its metrics. */
export const METRICS_SETTINGS = {
  KILN_METRICS: z
    .string()
    .transform((text) => parseMetricsAddress(text))
    .optional()
    .describe(
      'HOST:PORT where Prometheus gets metrics (/metrics); kilnd without a role: the API’s, and the builder’s at the next port',
    ),
};

/** Where blobs are. */
export const BLOB_SETTINGS = {
  KILN_BLOBS: z
    .string()
    .min(1)
    .describe('directory of the blobs, or s3://BUCKET[/PREFIX]; the same for all roles'),
  KILN_S3_ENDPOINT: z
    .url({ protocol: /^https?$/, error: 'must be the http or https URL of an S3 server' })
    .optional()
    .describe('URL of the bucket’s server; AWS’s own of the region if it is not set'),
  KILN_S3_REGION: z
    .string()
    .min(1)
    .optional()
    .describe(`region of the bucket (default ${DEFAULT_REGION})`),
  KILN_S3_KEY_ID: z.string().min(1).optional().describe('id of the key to the bucket'),
  KILN_S3_SECRET_FILE: z.string().min(1).optional().describe('file of that key’s secret'),
  KILN_SPOOL: z
    .string()
    .min(1)
    .optional()
    .describe(
      'directory where bytes wait on their way to a bucket, the largest blob’s at least (default: the system’s for temporary files)',
    ),
};

/** What every role is told. */
export const COMMON_SETTINGS = {
  KILN_REDIS: z
    .string()
    .transform((text) => parseRedisAddress(text))
    .describe('Redis, as redis://[USER@]HOST:PORT or unix:/PATH'),
  KILN_REDIS_PASSWORD_FILE: z.string().min(1).optional().describe('file of that user’s password'),
  KILN_KEY: z
    .string()
    .min(1)
    .transform((file) => readIdentity(file))
    .describe('file of the role’s own key, by which the others know its messages'),
  KILN_PREFIX: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,40}$/)
    .default('kiln')
    .describe('what Redis keys begin with'),
  ...BLOB_SETTINGS,
  KILN_LOG_LEVEL: z
    .enum(['debug', 'info', 'warn', 'error', 'silent'])
    .default('info')
    .describe('debug, info, warn, error or silent'),
};

/** What every role is told, as its config has it. */
export interface CommonConfig {
  readonly redis: RedisAddress;
  readonly prefix: string;
  readonly blobs: BlobPlace;
  readonly own: Identity;
}

/** Makes it of the settings that were read. */
export const commonConfig = (
  settings: BlobSettings & {
    readonly KILN_REDIS: RedisAddress;
    readonly KILN_REDIS_PASSWORD_FILE?: string | undefined;
    readonly KILN_PREFIX: string;
    readonly KILN_KEY: Identity;
  },
): CommonConfig => {
  const { KILN_REDIS: redis, KILN_REDIS_PASSWORD_FILE: file } = settings;
  const password = file === undefined ? {} : { password: readFileSync(file, 'utf8').trim() };
  return {
    redis: 'path' in redis ? redis : { ...redis, ...password },
    prefix: settings.KILN_PREFIX,
    blobs: blobPlace(settings),
    own: settings.KILN_KEY,
  };
};
