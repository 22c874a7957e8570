import { createConfReader, type ConfReader } from './conf.ts';
import type { DkmsSession } from './session.ts';
import { requestFor, type Prepared } from './source.ts';
import type { Target } from './tree.ts';

/** What the verbs of one dkms command share: confs that were read, kernels that were made ready. */
export interface DkmsRun {
  readonly session: DkmsSession;
  readonly confs: ConfReader;
  /**
   * The request for a build; says once for each kernel who signs, as dkms says it when it makes a kernel ready. `dependencies`: what it is built
   * against. Throws `DkmsEnd(21)` where nobody has the kernel's headers.
   */
  prepare(target: Target, dependencies: readonly string[]): Promise<Prepared>;
}

export const createRun = (session: DkmsSession): DkmsRun => {
  const ready = new Set<string>();
  return {
    session,
    confs: createConfReader(session),
    async prepare(target, dependencies) {
      const prepared = await requestFor(session, target, dependencies);
      const kernel = `${target.release}/${target.arch}`;
      if (ready.has(kernel)) return prepared;
      ready.add(kernel);
      const { server, certificate } = session.context.config;
      session.say(`Sign command: Kiln`);
      session.say(`Signing key: held by ${server}`);
      session.say(
        `Public certificate (MOK): ${certificate ?? 'none is pinned; kiln setup pins one'}`,
      );
      session.say('');
      return prepared;
    },
  };
};
