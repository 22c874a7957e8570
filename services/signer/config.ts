import { z } from 'zod';
import { digestOf } from '../core/digest.ts';
import { readBuildScript } from '../storage/build-script.ts';
import { readSenders } from '../storage/identity.ts';
import { COMMON_SETTINGS, commonConfig, readSettings } from '../storage/settings.ts';
import type { SignerConfig } from './start-signer.ts';

/** What the signer is told. */
export const SIGNER_SETTINGS = {
  ...COMMON_SETTINGS,
  KILN_COORDINATOR: z
    .string()
    .min(1)
    .transform((file) => readSenders(file))
    .describe('file of the API’s public key, whose jobs are done'),
  KILN_SIGNING_KEY: z.string().min(1).describe('file of the signing key (PEM)'),
  KILN_SIGNING_CERTIFICATE: z.string().min(1).describe('file of its certificate (PEM)'),
  KILN_REPOSITORY_KEY: z
    .string()
    .min(1)
    .describe('file of the key of package repositories (OpenPGP, armored)'),
};

/** The signer's settings from its environment. */
export const signerConfig = (
  environment: NodeJS.ProcessEnv,
): SignerConfig & { logLevel: string } => {
  const settings = readSettings(SIGNER_SETTINGS, environment);
  return {
    ...commonConfig(settings),
    coordinator: settings.KILN_COORDINATOR,
    script: digestOf(readBuildScript()),
    keyFile: settings.KILN_SIGNING_KEY,
    repositoryKeyFile: settings.KILN_REPOSITORY_KEY,
    certificateFile: settings.KILN_SIGNING_CERTIFICATE,
    logLevel: settings.KILN_LOG_LEVEL,
  };
};
