import type { Digest } from '../../services/core/digest.ts';
import type { BuildView, CreateBuild } from '../../services/core/protocol/build.ts';
import { askForBuild } from '../ask/ask.ts';
import type { Withdrawal } from '../../services/core/policy/withdrawal.ts';
import type { Host } from '../host/host.ts';
import { askWithdrawals } from '../installed/withdrawn.ts';
import type { AskDeps } from '../ask/ask-deps.ts';

/** Where finished builds come from: the service, or a bundle that somebody carried here. */
export interface Supply {
  /** The supply's name in messages and receipts. */
  readonly name: string;
  /** The build of a source for a kernel, made now unless it is there already. Throws a `KilnError` where there is none. */
  build(request: CreateBuild): Promise<{ readonly build: BuildView; readonly isCached: boolean }>;
  /** The build that another one was built against. */
  dependency(id: string): Promise<BuildView>;
  /** The withdrawals that this supply knows of. */
  withdrawals(host: Host): Promise<readonly Withdrawal[]>;
  /** An artifact's bytes, their digest checked. */
  artifact(digest: Digest): Promise<Buffer>;
}

/** The service as a supply. */
export const serviceSupply = (deps: AskDeps, server: string): Supply => ({
  name: server,
  build: (request) => askForBuild(deps, request),
  dependency: (id) => deps.service.build(id),
  withdrawals: (host) => askWithdrawals(host, deps.service),
  artifact: (digest) => deps.service.artifact(digest),
});
