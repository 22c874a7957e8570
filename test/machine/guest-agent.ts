import type { Readable, Writable } from 'node:stream';
import { createInterface } from 'node:readline';
import type { Ran } from './run.ts';

/** The machine's side of `guest-root/agent`. */
export interface GuestAgent {
  /** Until the guest has come up; throws when it ends before. */
  ready(): Promise<void>;
  /** Runs a script in the guest; throws when the guest ends before the script. One at a time. */
  run(script: string): Promise<Ran>;
}

const decode = (field = ':'): string => Buffer.from(field.slice(1), 'base64').toString('utf8');

/** Speaks with an agent whose lines come in through `from`; `describeEnd` says why it is silent for good. */
export const guestAgent = (to: Writable, from: Readable, describeEnd: () => string): GuestAgent => {
  const lines = createInterface({ input: from })[Symbol.asyncIterator]();
  const nextLine = async (): Promise<string> => {
    const { value, done } = await lines.next();
    if (done === true) throw new Error(describeEnd());
    return value;
  };
  // A guest that was cut off takes no more.
  to.on('error', () => {});
  return {
    async ready() {
      while ((await nextLine()) !== 'ready');
    },
    async run(script) {
      to.write(`${Buffer.from(script).toString('base64')}\n`);
      const [status, stdout, stderr] = (await nextLine()).split(' ');
      return { status: Number(status), stdout: decode(stdout), stderr: decode(stderr) };
    },
  };
};
