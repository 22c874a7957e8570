import type { Digest } from '../../services/core/digest.ts';
import type { BuildView, CreateBuild } from '../../services/core/protocol.ts';
import { askForBuild } from '../ask/ask.ts';
import type { AskDeps } from '../ask/ask-deps.ts';

/** Where finished builds come from: the service, or a bundle that somebody carried here. */
export interface Supply {
  /** What is named in messages and receipts. */
  readonly name: string;
  /** A build of a source for a kernel, made now if it was not there already. Throws why there is none. */
  build(request: CreateBuild): Promise<{ readonly build: BuildView; readonly isCached: boolean }>;
  /** The build that another one was built against. */
  dependency(id: string): Promise<BuildView>;
  /** What a build made, by digest, checked. */
  artifact(digest: Digest): Promise<Buffer>;
}

/** The service as a supply. */
export const serviceSupply = (deps: AskDeps, server: string): Supply => ({
  name: server,
  build: (request) => askForBuild(deps, request),
  dependency: (id) => deps.service.build(id),
  artifact: (digest) => deps.service.artifact(digest),
});
