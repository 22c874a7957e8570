import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { unpackPackages } from './debian.ts';
import { freePort } from './faulty-network.ts';
import { freshDirectory } from './make-source.ts';
import { until } from './until.ts';

/** A registry of containers' images, without TLS, on this machine. */
export interface Registry {
  /** Its host and port. */
  readonly address: string;
  stop(): Promise<void>;
}

/** Starts Debian's registry with nothing in it. */
export const startRegistry = async (): Promise<Registry> => {
  const home = await freshDirectory('registry');
  const address = `127.0.0.1:${await freePort()}`;
  const config = join(home, 'config.yml');
  await writeFile(
    config,
    `version: 0.1
storage: { filesystem: { rootdirectory: ${join(home, 'images')} } }
http: { addr: ${address} }
log: { level: warn }
`,
  );
  const unpacked = await unpackPackages('docker-registry', ['docker-registry']);
  const program = join(unpacked, 'usr/bin/docker-registry');
  const registry = spawn(program, ['serve', config], { stdio: 'ignore' });
  const ended = once(registry, 'exit');
  await until('the registry answers', () =>
    fetch(`http://${address}/v2/`).then(
      ({ ok }) => ok,
      () => {
        if (registry.exitCode !== null) throw new Error(`it ended with ${registry.exitCode}`);
        return false;
      },
    ),
  );
  return {
    address,
    async stop() {
      registry.kill();
      await ended;
    },
  };
};
