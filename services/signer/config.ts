import { z } from 'zod';
import { COMMON_SETTINGS, readSettings } from '../storage/settings.ts';
import type { SignerConfig } from './start-signer.ts';

/** What the signer is told. */
export const SIGNER_SETTINGS = {
  ...COMMON_SETTINGS,
  KILN_SIGNING_KEY: z.string().min(1).describe('file of the signing key (PEM)'),
  KILN_SIGNING_CERTIFICATE: z.string().min(1).describe('file of its certificate (PEM)'),
};

/** The signer's settings from its environment. */
export const signerConfig = (
  environment: NodeJS.ProcessEnv,
): SignerConfig & { logLevel: string } => {
  const settings = readSettings(SIGNER_SETTINGS, environment);
  return {
    redis: settings.KILN_REDIS,
    prefix: settings.KILN_PREFIX,
    blobs: settings.KILN_BLOBS,
    keyFile: settings.KILN_SIGNING_KEY,
    certificateFile: settings.KILN_SIGNING_CERTIFICATE,
    logLevel: settings.KILN_LOG_LEVEL,
  };
};
