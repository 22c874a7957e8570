import type { Digest } from '../../services/core/digest.ts';
import { KilnError } from '../../services/core/errors.ts';
import type { BuildView, CreateBuild } from '../../services/core/protocol/build.ts';
import { askForBuild } from '../ask/ask.ts';
import type { Withdrawal } from '../../services/core/policy/withdrawal.ts';
import type { Host } from '../host/host.ts';
import { askWithdrawals, knownWithdrawals } from '../installed/withdrawn.ts';
import type { AskDeps } from '../ask/ask-deps.ts';

/** Where finished builds come from: the service, or a bundle that somebody carried here. */
export interface Supply {
  /** The supply's name in messages and receipts. */
  readonly name: string;
  /** The build of a source for a kernel, made now unless it is there already. Throws a `KilnError` where there is none. */
  build(request: CreateBuild): Promise<{ readonly build: BuildView; readonly isCached: boolean }>;
  /** The build that another one was built against. */
  dependency(id: string): Promise<BuildView>;
  /** The withdrawals that this supply or the host knows of. `forget`: the host forgets those that the supply no longer lists. */
  withdrawals(host: Host, forget: boolean): Promise<readonly Withdrawal[]>;
  /** An artifact's bytes, their digest checked. */
  artifact(digest: Digest): Promise<Buffer>;
}

/** The service as a supply. */
export const serviceSupply = (deps: AskDeps, server: string): Supply => ({
  name: server,
  build: (request) => askForBuild(deps, request),
  dependency: (id) => deps.service.build(id),
  withdrawals: (host, forget) =>
    askWithdrawals(host, deps.service, forget).catch((error: unknown) => {
      // Links to modules that are here need no service.
      if (error instanceof KilnError && error.code === 'unreachable') return knownWithdrawals(host);
      throw error;
    }),
  artifact: (digest) => deps.service.artifact(digest),
});
