import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { digestOf } from '../core/digest.ts';
import { KilnError } from '../core/errors.ts';
import { blobPlace, type BlobPlace } from '../storage/blob-place.ts';
import { readBuildScript, readPackageScript } from '../storage/build-script.ts';
import { readDatabaseAddress, type DatabaseAddress } from '../storage/database-address.ts';
import { readCertificate, readSenders } from '../storage/identity.ts';
import {
  BLOB_SETTINGS,
  COMMON_SETTINGS,
  METRICS_SETTINGS,
  commonConfig,
  readSettings,
  whole,
} from '../storage/settings.ts';
import type { ApiConfig } from './start-api.ts';

const GiB = 1024 ** 3;

/** The settings that `kilnd gc` has, too. */
const KEEPING_SETTINGS = {
  KILN_KEEP_DAYS: whole(90).describe(
    'days that stays what is of use for a while only (kilnd gc --dry-run lists it)',
  ),
};

/** The API's settings, as variables of the environment. */
export const API_SETTINGS = {
  ...COMMON_SETTINGS,
  ...METRICS_SETTINGS,
  ...KEEPING_SETTINGS,
  KILN_BUILDERS: z
    .string()
    .min(1)
    .transform((file) => readSenders(file))
    .describe('file of the builders’ public keys, one after another: who may build'),
  KILN_SIGNERS: z
    .string()
    .min(1)
    .transform((file) => readSenders(file))
    .describe('file of the signer’s public key'),
  KILN_SIGNING_CERTIFICATE: z
    .string()
    .min(1)
    .transform((file) => readCertificate(file))
    .describe('file of the signing key’s certificate'),
  KILN_REPOSITORY_PUBLIC_KEY: z
    .string()
    .min(1)
    .transform((file) => readFileSync(file, 'utf8'))
    .describe('file of the public key of package repositories (OpenPGP, armored)'),
  KILN_DATABASE: z
    .string()
    .min(1)
    .describe(
      'the record: a file, or postgres://USER@HOST:PORT/NAME, which several APIs may share',
    ),
  KILN_DATABASE_PASSWORD_FILE: z
    .string()
    .min(1)
    .optional()
    .describe('file of that user’s password'),
  KILN_HOST: z.string().min(1).default('127.0.0.1').describe('address that the API listens on'),
  KILN_PORT: whole(8070, 0).describe('port that the API listens on; 0: any free one'),
  KILN_ADMIN_TOKEN_FILE: z
    .string()
    .min(1)
    .optional()
    .describe('where the first admin’s token is put'),
  KILN_BLOB_LIMIT: whole(2 * GiB).describe('bytes that one upload may have'),
  KILN_CONNECTIONS: whole(1024).describe('connections open at once'),
  KILN_ADDRESS_CONNECTIONS: whole(256).describe(
    'connections open at once from one address; behind a proxy, as many as in all',
  ),
  KILN_REQUEST_SECONDS: whole(30).describe(
    'seconds that a request’s headers may take, and over which the pace of its body is measured',
  ),
  KILN_REQUEST_RATE: whole(1024).describe('the least bytes a second at which a body must come'),
  KILN_ARCHIVES: z
    .string()
    .min(1)
    .optional()
    .describe(
      'directory for the lists of followed archives; beside the record’s file if it is not set',
    ),
  KILN_SYNC_HOURS: whole(6, 0).describe(
    'hours between looks at followed archives; 0: never by itself',
  ),
  KILN_COLLECT_HOURS: whole(24, 0).describe(
    'hours between collections of blobs that are of no use; 0: never by itself (kilnd gc)',
  ),
};

/** How long what is kept that goes one day, in days, for commands beside a kilnd. */
export const keepDays = (environment: NodeJS.ProcessEnv): number =>
  readSettings(KEEPING_SETTINGS, environment).KILN_KEEP_DAYS;

/** Where the blobs of a Kiln are that keeps all below a directory: there, or in the bucket that its environment names. */
export const blobsBelow = (data: string, environment: NodeJS.ProcessEnv): BlobPlace =>
  blobPlace(readSettings(BLOB_SETTINGS, { KILN_BLOBS: join(data, 'blobs'), ...environment }));

/** The API's settings from its environment. */
export const apiConfig = (environment: NodeJS.ProcessEnv): ApiConfig & { logLevel: string } => {
  const settings = readSettings(API_SETTINGS, environment);
  const database = readDatabaseAddress(
    settings.KILN_DATABASE,
    settings.KILN_DATABASE_PASSWORD_FILE,
  );
  return {
    ...commonConfig(settings),
    metrics: settings.KILN_METRICS ?? null,
    builders: settings.KILN_BUILDERS,
    signers: settings.KILN_SIGNERS,
    certificate: settings.KILN_SIGNING_CERTIFICATE,
    repositoryKey: settings.KILN_REPOSITORY_PUBLIC_KEY,
    database,
    host: settings.KILN_HOST,
    port: settings.KILN_PORT,
    adminTokenFile: settings.KILN_ADMIN_TOKEN_FILE ?? null,
    blobLimit: settings.KILN_BLOB_LIMIT,
    limits: {
      connections: settings.KILN_CONNECTIONS,
      addressConnections: settings.KILN_ADDRESS_CONNECTIONS,
      pace: { seconds: settings.KILN_REQUEST_SECONDS, rate: settings.KILN_REQUEST_RATE },
    },
    archives: settings.KILN_ARCHIVES ?? besideRecord(database),
    // A timer cannot wait for more than 24 days.
    syncHours: Math.min(settings.KILN_SYNC_HOURS, 500),
    collecting: {
      collectHours: Math.min(settings.KILN_COLLECT_HOURS, 500),
      keepDays: settings.KILN_KEEP_DAYS,
    },
    script: digestOf(readBuildScript()),
    packageScript: digestOf(readPackageScript()),
    logLevel: settings.KILN_LOG_LEVEL,
  };
};

/** Where the lists of followed archives are if nobody says so. Throws `bad-request` where the record is in no directory. */
const besideRecord = (database: DatabaseAddress): string => {
  if ('file' in database) return join(dirname(database.file), 'archives');
  throw new KilnError(
    'bad-request',
    'setting KILN_ARCHIVES: must be set, as the record is on a server; name a directory',
  );
};
