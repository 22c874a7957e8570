import { setTimeout as sleep } from 'node:timers/promises';
import { containersOf } from './containers.ts';
import { dkmsSource } from './make-source.ts';
import { run } from './run.ts';

/** What a held build waits for, in its container. */
const LEAVE = '/tmp/leave';

/** A source whose build is held until `letGo`, so that something can happen meanwhile. */
export const heldSource = (name: string): Promise<string> => {
  const held = `until [ -e ${LEAVE} ]; do sleep 0.1; done`;
  return dkmsSource(
    name,
    `MAKE="${held}; make -C $kernel_source_dir M=$dkms_tree/${name}/1.0/build"`,
  );
};

/** Releases a Kiln's held builds, those that begin again meanwhile too, until `awaited` is there. */
export const letGo = async <T>(data: string, awaited: Promise<T>): Promise<T> => {
  let isOver = false;
  const over = (): void => void (isOver = true);
  awaited.then(over, over);
  while (!isOver) {
    for (const id of await containersOf(data)) await run('docker', ['exec', id, 'touch', LEAVE]);
    await sleep(100);
  }
  return awaited;
};
