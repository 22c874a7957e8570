import { Agent, request } from 'node:http';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { BuildTicket, BuildView } from '../../services/core/protocol/build.ts';
import { fewHeaders } from '../machine/few-headers.ts';
import { newestRelease } from '../machine/debian.ts';
import { pinToolchain, startKiln } from '../machine/kiln-service.ts';
import { freshDirectory, kbuildSource } from '../machine/make-source.ts';
import { startNginx } from '../machine/nginx.ts';
import { WORK } from '../machine/places.ts';
import { writeFile } from 'node:fs/promises';

/**
 * Many hosts at once: how many requests a second for what was built before the API answers, beside nginx that gives the same answer from a
 * file; and a thousand hosts that ask for one module that nobody has built. All of it on loopback, with the hosts in this process.
 *
 * usage   npm run bench:load
 */

const SECONDS = 10;
const CONNECTIONS = 64;
const HOSTS = 1000;

const say = (text: string): void => void process.stderr.write(`${text}\n`);
const quantile = (times: readonly number[], part: number): number =>
  times.toSorted((a, b) => a - b)[Math.floor((times.length - 1) * part)] ?? NaN;

interface Answer {
  readonly status: number;
  readonly body: string;
}

/** One request over a connection that stays. */
const ask = (
  agent: Agent,
  url: string,
  method: string,
  token: string,
  body?: string,
): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const sent = request(
      url,
      {
        agent,
        method,
        headers: {
          authorization: `Bearer ${token}`,
          ...(body === undefined
            ? {}
            : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }),
        },
      },
      (response) => {
        const pieces: Buffer[] = [];
        response.on('data', (piece: Buffer) => pieces.push(piece));
        response.once('end', () =>
          resolve({ status: response.statusCode ?? 0, body: Buffer.concat(pieces).toString() }),
        );
        response.once('error', reject);
      },
    );
    sent.once('error', reject);
    sent.end(body);
  });

/** Asks over and over on all connections; requests a second, and how long one took (milliseconds). */
const load = async (
  act: (agent: Agent) => Promise<Answer>,
): Promise<{ readonly rate: number; readonly p50: number; readonly p99: number }> => {
  const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });
  const times: number[] = [];
  const end = performance.now() + SECONDS * 1000;
  const host = async (): Promise<void> => {
    while (performance.now() < end) {
      const began = performance.now();
      const { status, body } = await act(agent);
      if (status !== 200) throw new Error(`${status}: ${body.slice(0, 300)}`);
      times.push(performance.now() - began);
    }
  };
  await act(agent);
  await Promise.all(Array.from({ length: CONNECTIONS }, host));
  agent.destroy();
  return { rate: times.length / SECONDS, p50: quantile(times, 0.5), p99: quantile(times, 0.99) };
};

const data = join(WORK, 'bench/load');
await rm(data, { recursive: true, force: true });
const kiln = await startKiln(data, { KILN_CONCURRENCY: '2', KILN_LOG_LEVEL: 'warn' });
try {
  await pinToolchain(kiln);
  const release = await newestRelease();
  await kiln.json('kernel', 'push', await fewHeaders(release));
  for (const name of ['built', 'unbuilt']) {
    const source = await kbuildSource(name);
    await kiln.json('source', 'push', source, '--name', name, '--version', '1');
  }
  await kiln.json<BuildView>('build', 'built', '-k', release);
  const token = await kiln.adminToken();
  const wish = (name: string): string =>
    JSON.stringify({ source: { name }, kernel: { release, arch: 'x86_64' } });

  const agent = new Agent({ keepAlive: true });
  const first = await ask(agent, `${kiln.url}/v1/builds`, 'POST', token, wish('built'));
  if (first.status !== 200) throw new Error(first.body);
  const place = await freshDirectory('static');
  await writeFile(join(place, 'build.json'), first.body);
  const nginx = await startNginx(`root ${place};`);

  say('asking for what was built');
  const built = await load((each) =>
    ask(each, `${kiln.url}/v1/builds`, 'POST', token, wish('built')),
  );
  say('asking nginx for the same');
  const fixed = await load((each) => ask(each, `${nginx.url}/build.json`, 'GET', token));
  await nginx.close();

  say(`${HOSTS} hosts ask for what nobody has built`);
  const many = new Agent({ keepAlive: true, maxSockets: 200 });
  const ids = new Set<string>();
  const began = performance.now();
  const waited = await Promise.all(
    Array.from({ length: HOSTS }, async () => {
      const asked = await ask(many, `${kiln.url}/v1/builds`, 'POST', token, wish('unbuilt'));
      if (asked.status >= 300) throw new Error(`${asked.status}: ${asked.body.slice(0, 300)}`);
      const { build } = JSON.parse(asked.body) as BuildTicket;
      ids.add(build.id);
      let { state } = build;
      while (state !== 'succeeded') {
        const { body } = await ask(many, `${kiln.url}/v1/builds/${build.id}`, 'GET', token);
        ({ state } = JSON.parse(body) as BuildView);
        if (state === 'failed') throw new Error(body);
      }
      return performance.now() - began;
    }),
  );
  const [id = ''] = ids;
  const { attempt, finishedAt, createdAt } = await kiln.json<BuildView>('show', id);
  const took = (finishedAt ?? 0) - createdAt;
  process.stdout.write(`
| ${CONNECTIONS} connections, ${SECONDS} s | requests/s | p50, ms | p99, ms |
|---|---|---|---|
| a build that was built before, from the API | ${built.rate.toFixed(0)} | ${built.p50.toFixed(1)} | ${built.p99.toFixed(1)} |
| the same answer from nginx, a file | ${fixed.rate.toFixed(0)} | ${fixed.p50.toFixed(1)} | ${fixed.p99.toFixed(1)} |

The API answers ${(built.rate / fixed.rate).toFixed(2)} as many as nginx.

${HOSTS} hosts asked for one module at once: ${ids.size} build, ${attempt + 1} compile, which took ${(took / 1000).toFixed(1)} s; the first host knew after ${(quantile(waited, 0) / 1000).toFixed(1)} s, half after ${(quantile(waited, 0.5) / 1000).toFixed(1)} s, 99 % after ${(quantile(waited, 0.99) / 1000).toFixed(1)} s, the last after ${(quantile(waited, 1) / 1000).toFixed(1)} s.
`);
} finally {
  await kiln.stop();
}
