import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { METRICS } from '../../services/core/metrics.ts';
import type { BuildView } from '../../services/core/protocol/build.ts';
import { freePort } from '../machine/faulty-network.ts';
import { fewHeaders } from '../machine/few-headers.ts';
import { pinToolchain, startKiln, type KilnService } from '../machine/kiln-service.ts';
import { freshDirectory, kbuildSource } from '../machine/make-source.ts';
import { CHECKOUT } from '../machine/places.ts';
import { promtool, startPrometheus } from '../machine/prometheus.ts';
import { sharedKiln } from '../machine/shared.ts';
import { until } from '../machine/until.ts';

/** What Prometheus gets of Kiln, and what is made of it. */

const shared = sharedKiln();
let kiln: KilnService;
let targets: readonly string[];
const metricsOf = async (target: string): Promise<string> =>
  (await fetch(`http://${target}/metrics`)).text();
const all = async (): Promise<string> => (await Promise.all(targets.map(metricsOf))).join('');
/** The value of a metric with these labels, whatever others it has. */
const valueOf = async (name: string, labels: Readonly<Record<string, string>>): Promise<number> => {
  const lines = (await all()).split('\n').filter((line) => line.startsWith(`${name}{`));
  const found = lines.find((line) =>
    Object.entries(labels).every(([key, value]) => line.includes(`${key}="${value}"`)),
  );
  return Number(found?.split(' ').at(-1));
};

beforeAll(async () => {
  const port = await freePort();
  targets = [`127.0.0.1:${port}`, `127.0.0.1:${port + 1}`];
  kiln = await startKiln(await freshDirectory('metered'), {
    KILN_METRICS: targets[0],
    KILN_LOG_LEVEL: 'warn',
  });
  await pinToolchain(kiln);
  await kiln.json('kernel', 'push', await fewHeaders(shared.release));
  const source = await kbuildSource('metered');
  await kiln.json<BuildView>('build', source, '-k', shared.release);
  await kiln.json<BuildView>('build', source, '-k', shared.release);
  await kiln.kiln('build', 'nobody-has-it', '-k', shared.release);
});
afterAll(async () => {
  await kiln.stop();
});

describe('metrics', () => {
  it('are such as Prometheus’s own tool takes without a word', async () => {
    for (const target of targets) {
      const { status, stdout, stderr } = await promtool(
        ['check', 'metrics'],
        await metricsOf(target),
      );
      expect([status, stdout, stderr]).toEqual([0, '', '']);
    }
  });

  it('count what was asked for, what ended and how long it took', async () => {
    expect(await valueOf('kiln_requests_total', { answer: 'built' })).toBe(1);
    expect(await valueOf('kiln_requests_total', { answer: 'waits' })).toBe(1);
    expect(await valueOf('kiln_requests_total', { answer: 'refused', reason: 'not-found' })).toBe(
      1,
    );
    const ended = { state: 'succeeded', release: shared.release, toolchain: 'debian-12-gcc-12' };
    expect(await valueOf('kiln_builds_ended_total', ended)).toBe(1);
    for (const phase of ['queued', 'prepare', 'sandbox', 'check', 'sign'])
      expect([phase, await valueOf('kiln_build_phase_seconds_count', { phase })]).toEqual([
        phase,
        1,
      ]);
    expect(await valueOf('kiln_build_phase_seconds_sum', { phase: 'sandbox' })).toBeGreaterThan(
      0.1,
    );
    expect(await valueOf('kiln_cache_lookups_total', { kind: 'tree', result: 'miss' })).toBe(1);
    expect(await valueOf('kiln_builds', { state: 'queued' })).toBe(0);
    expect(await valueOf('kiln_http_seconds_count', { path: 'builds', status: '4xx' })).toBe(1);
  });

  it('have labels of a few values only, whatever callers make up', async () => {
    for (const path of ['/v1/made-up', '/v1/%2e%2e/x', '/x"}\n', '/v1/builds/a/b/c/d'])
      await fetch(`${kiln.url}${encodeURI(path)}`, { method: 'PROPFIND' });
    expect(await valueOf('kiln_http_seconds_count', { path: 'other', method: 'other' })).toBe(3);
    const { status } = await promtool(['check', 'metrics'], await all());
    expect(status).toBe(0);
    expect(await all()).not.toMatch(/made-up|PROPFIND/);
  });

  it('are given nowhere else, and nothing else is given there', async () => {
    const [first = ''] = targets;
    expect((await fetch(`http://${first}/v1/builds`)).status).toBe(404);
    expect((await fetch(`http://${first}/metrics`, { method: 'POST' })).status).toBe(404);
    expect((await fetch(`${kiln.url}/metrics`)).status).toBe(404);
    const taken = await startKiln(await freshDirectory('taken'), { KILN_METRICS: first }).catch(
      (error: unknown) => String(error),
    );
    expect(taken).toMatch(/metrics cannot be given at .*; another process may listen there/);
  });
});

describe('what is made of them', () => {
  it('are alerts that go off when they should, and only then', async () => {
    const rules = await promtool(['check', 'rules', join(CHECKOUT, 'docs/alerts.yml')]);
    expect(rules.stdout).toMatch(/SUCCESS: 9 rules found/);
    const tests = await promtool(['test', 'rules', join(CHECKOUT, 'docs/alerts-test.yml')]);
    expect([tests.status, tests.stdout]).toEqual([0, expect.stringMatching(/SUCCESS/)]);
  });

  it('is a dashboard of metrics that there are, read by a Prometheus that looks', async () => {
    const text = await readFile(join(CHECKOUT, 'docs/grafana.json'), 'utf8');
    const { panels } = JSON.parse(text) as {
      readonly panels: readonly {
        readonly title: string;
        readonly targets: readonly { readonly expr: string }[];
      }[];
    };
    const exprs = panels.flatMap((panel) => panel.targets.map(({ expr }) => expr));
    const alerts = await readFile(join(CHECKOUT, 'docs/alerts.yml'), 'utf8');
    const used = `${exprs.join('\n')}\n${alerts}`.match(/kiln_[a-z_]+/g) ?? [];
    const names = new Set(used.map((name) => name.replace(/_(bucket|sum|count)$/, '')));
    expect([...names].filter((name) => !Object.hasOwn(METRICS, name))).toEqual([]);
    const prometheus = await startPrometheus(targets);
    try {
      await until('both are looked at twice', async () => {
        const looks = await prometheus.query('count_over_time(up{job="kiln"}[1m])');
        return looks.length === 2 && looks.every(({ value }) => Number(value[1]) >= 2);
      });
      const answered = new Map<string, number>();
      for (const expr of exprs) answered.set(expr, (await prometheus.query(expr)).length);
      // Nothing was published, and no archive is followed.
      const empty = [...answered].filter(([, count]) => count === 0).map(([expr]) => expr);
      expect(empty).toEqual([
        'min(kiln_sync_age_seconds)',
        'min by (format, suite, channel) (kiln_repository_valid_seconds)',
      ]);
    } finally {
      await prometheus.stop();
    }
  });
});
