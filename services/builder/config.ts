import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { z } from 'zod';
import { DEFAULT_BUILD_USERS, parseBuildUsers } from '../core/sandbox/build-users.ts';
import { DEFAULT_SANDBOX_LIMITS as DEFAULTS } from '../core/sandbox/limits.ts';
import { readBuildScript, readPackageScript } from '../storage/build-script.ts';
import { readSenders } from '../storage/identity.ts';
import {
  COMMON_SETTINGS,
  METRICS_SETTINGS,
  commonConfig,
  readSettings,
  whole,
} from '../storage/settings.ts';
import type { BuilderConfig } from './start-builder.ts';

const IMAGES = new URL('../../images/', import.meta.url);

/** A builder's settings, as variables of the environment. */
export const BUILDER_SETTINGS = {
  ...COMMON_SETTINGS,
  ...METRICS_SETTINGS,
  KILN_COORDINATOR: z
    .string()
    .min(1)
    .transform((file) => readSenders(file))
    .describe('file of the API’s public key, whose jobs are done'),
  KILN_BUILDER_CACHE: z
    .string()
    .min(1)
    .describe('directory for unpacked trees, another for each builder'),
  KILN_DOCKER_SOCKET: z.string().default('/var/run/docker.sock').describe('Docker’s socket'),
  KILN_RUNTIME: z.string().default('runc').describe('container runtime of builds, such as runsc'),
  KILN_BUILD_USERS: z
    .string()
    .default(DEFAULT_BUILD_USERS)
    .transform(parseBuildUsers)
    .describe(
      `ids that builds run as, nobody’s on the Docker host (default ${DEFAULT_BUILD_USERS})`,
    ),
  KILN_BUILDER_CACHE_BYTES: whole(40 * 1024 ** 3).describe(
    'bytes of unpacked trees and toolchains’ images that are kept while no build runs; what was not used for longest goes',
  ),
  KILN_BUILDER_CACHE_DAYS: whole(30).describe('days that one stays which no build uses'),
  KILN_CONCURRENCY: whole(1).describe('builds at once'),
  KILN_BUILD_SECONDS: whole(DEFAULTS.seconds).describe('seconds that a build may take'),
  KILN_BUILD_MEMORY: whole(DEFAULTS.memory).describe('bytes of memory of a build'),
  KILN_BUILD_DISK: whole(DEFAULTS.disk).describe('bytes that a build may write'),
  KILN_BUILD_LOG: whole(DEFAULTS.log).describe('bytes of a build’s log'),
  KILN_BUILD_OUTPUT: whole(DEFAULTS.output).describe('bytes of a build’s modules'),
  KILN_BUILD_PIDS: whole(DEFAULTS.pids).describe('processes of a build at once'),
  KILN_BUILD_CPUS: whole(availableParallelism()).describe('processors that a build may use'),
};

/** The builder's settings from its environment. Limits are in bytes and seconds. */
export const builderConfig = (
  environment: NodeJS.ProcessEnv,
): BuilderConfig & { logLevel: string } => {
  const settings = readSettings(BUILDER_SETTINGS, environment);
  const script = (name: string): string => readFileSync(new URL(name, IMAGES), 'utf8');
  return {
    ...commonConfig(settings),
    metrics: settings.KILN_METRICS ?? null,
    coordinator: settings.KILN_COORDINATOR,
    cache: settings.KILN_BUILDER_CACHE,
    keeping: { bytes: settings.KILN_BUILDER_CACHE_BYTES, days: settings.KILN_BUILDER_CACHE_DAYS },
    dockerSocket: settings.KILN_DOCKER_SOCKET,
    runtime: settings.KILN_RUNTIME,
    users: settings.KILN_BUILD_USERS,
    concurrency: settings.KILN_CONCURRENCY,
    limits: {
      seconds: settings.KILN_BUILD_SECONDS,
      memory: settings.KILN_BUILD_MEMORY,
      disk: settings.KILN_BUILD_DISK,
      log: settings.KILN_BUILD_LOG,
      output: settings.KILN_BUILD_OUTPUT,
      pids: settings.KILN_BUILD_PIDS,
      cpus: settings.KILN_BUILD_CPUS,
    },
    scripts: {
      build: readBuildScript(),
      measure: script('measure'),
      package: readPackageScript(),
    },
    seccomp: script('seccomp.json'),
    logLevel: settings.KILN_LOG_LEVEL,
  };
};
