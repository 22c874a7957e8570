import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { unpackPackages } from './debian.ts';
import { freePort } from './faulty-network.ts';
import { freshDirectory } from './make-source.ts';
import { run, type Ran } from './run.ts';
import { until } from './until.ts';

/** Debian's Prometheus, and its tool. */

const program = async (name: string): Promise<string> =>
  join(await unpackPackages('prometheus', ['prometheus']), 'usr/bin', name);

/** Runs promtool. */
export const promtool = async (args: readonly string[], input = ''): Promise<Ran> =>
  run(await program('promtool'), args, { input });

/** What a query found: labels and a value. */
export interface Sample {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: readonly [time: number, value: string];
}

/** Starts a Prometheus that looks at these servers every second. */
export const startPrometheus = async (
  targets: readonly string[],
): Promise<{
  query(expr: string): Promise<readonly Sample[]>;
  stop(): Promise<void>;
}> => {
  const place = await freshDirectory('prometheus');
  const port = await freePort();
  const config = {
    global: { scrape_interval: '1s' },
    scrape_configs: [{ job_name: 'kiln', static_configs: [{ targets }] }],
  };
  await writeFile(join(place, 'prometheus.yml'), JSON.stringify(config));
  const child = spawn(
    await program('prometheus'),
    [
      `--config.file=${join(place, 'prometheus.yml')}`,
      `--storage.tsdb.path=${join(place, 'data')}`,
      `--web.listen-address=127.0.0.1:${port}`,
      '--log.level=error',
    ],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  );
  const ended = once(child, 'exit');
  const url = `http://127.0.0.1:${port}`;
  await until('Prometheus answers', () =>
    fetch(`${url}/-/ready`).then(
      ({ ok }) => ok,
      () => {
        if (child.exitCode !== null) throw new Error(`Prometheus ended with ${child.exitCode}`);
        return false;
      },
    ),
  );
  return {
    async query(expr) {
      const answer = await fetch(`${url}/api/v1/query?query=${encodeURIComponent(expr)}`);
      const { status, data, error } = (await answer.json()) as {
        readonly status: string;
        readonly data?: { readonly result: readonly Sample[] };
        readonly error?: string;
      };
      if (status !== 'success' || data === undefined) throw new Error(`${expr}: ${error}`);
      return data.result;
    },
    async stop() {
      child.kill('SIGTERM');
      await ended;
    },
  };
};
