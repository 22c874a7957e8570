import { readToken, type ClientConfig } from '../config.ts';
import type { Progress } from '../terminal/progress.ts';
import { connect, type Send } from '../wire/http.ts';
import { createPatience } from '../wire/retry.ts';
import { openService } from '../wire/service.ts';
import type { AskDeps } from './ask-deps.ts';

/** What asking the configured service needs. The token is read when the service is first asked, so that what never asks needs none. */
export const openDeps = (
  config: ClientConfig,
  progress: Progress,
  signal: AbortSignal,
): AskDeps => {
  const lazy = lazily(() => connect(config.server, readToken(config.tokenFile), config.network));
  const send: Send = async (call) => lazy()(call);
  const patience = createPatience({ seconds: config.patience, signal, say: progress.say });
  return { send, service: openService(send, patience), progress, patience, signal };
};

/** Makes a value when it is first asked for. */
const lazily = <T>(make: () => T): (() => T) => {
  let made: { readonly value: T } | null = null;
  return () => (made ??= { value: make() }).value;
};
