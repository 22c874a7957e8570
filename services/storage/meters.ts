import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { KilnError } from '../core/errors.ts';
import {
  BUCKETS,
  METRICS,
  type CounterName,
  type GaugeName,
  type HistogramName,
  type Labels,
} from '../core/metrics.ts';

/** One value of a gauge. */
export interface Reading {
  readonly value: number;
  readonly labels?: Labels;
}

/** What a role counts and times, for whoever looks (Prometheus). */
export interface Meters {
  count(name: CounterName, labels?: Labels): void;
  /** Notes how long something took, in seconds. */
  time(name: HistogramName, seconds: number, labels?: Labels): void;
  /** Has a gauge read whenever somebody looks. One that fails is left out. */
  gauge(name: GaugeName, read: () => Promise<readonly Reading[]>): void;
  close(): Promise<void>;
}

/** Where nobody looks. */
export const NO_METERS: Meters = {
  count() {},
  time() {},
  gauge() {},
  async close() {},
};

/** Reads HOST:PORT. Throws `bad-request`. */
export const parseMetricsAddress = (
  text: string,
): { readonly host: string; readonly port: number } => {
  const match = /^(.+):(\d{1,5})$/.exec(text);
  if (match?.[1] === undefined || Number(match[2]) > 65535)
    throw new KilnError(
      'bad-request',
      `${JSON.stringify(text)} is no HOST:PORT to give metrics at, such as 127.0.0.1:9464`,
    );
  return { host: match[1].replace(/^\[(.*)\]$/, '$1'), port: Number(match[2]) };
};

/** Opens a role's meters, and answers `GET /metrics` at an address; `null`: nobody looks. The libraries are loaded only where somebody does. */
export const openMeters = async (
  address: { readonly host: string; readonly port: number } | null,
): Promise<Meters & { readonly url: string | null }> => {
  if (address === null) return { ...NO_METERS, url: null };
  const { MeterProvider } = await import('@opentelemetry/sdk-metrics');
  const { PrometheusExporter } = await import('@opentelemetry/exporter-prometheus');
  const exporter = new PrometheusExporter({
    preventServerStart: true,
    withoutScopeInfo: true,
    withoutTargetInfo: true,
  });
  const provider = new MeterProvider({ readers: [exporter] });
  const meter = provider.getMeter('kiln');
  const helpOf = (name: keyof typeof METRICS) => ({ description: METRICS[name].help });
  const counters = new Map<CounterName, ReturnType<typeof meter.createCounter>>();
  const histograms = new Map<HistogramName, ReturnType<typeof meter.createHistogram>>();

  const server = createServer((request, response) => {
    if (request.method === 'GET' && request.url === '/metrics') {
      exporter.getMetricsRequestHandler(request, response);
      return;
    }
    response.writeHead(404).end();
  });
  server.listen(address.port, address.host);
  await once(server, 'listening').catch((cause: unknown) => {
    throw new KilnError(
      'unavailable',
      `metrics cannot be given at ${address.host}:${address.port}; another process may listen there (KILN_METRICS)`,
      { cause },
    );
  });
  const { address: host, port } = server.address() as AddressInfo;

  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${port}/metrics`,
    count(name, labels = {}) {
      const counter = counters.get(name) ?? meter.createCounter(name, helpOf(name));
      counters.set(name, counter);
      counter.add(1, labels);
    },
    time(name, seconds, labels = {}) {
      const advice = { explicitBucketBoundaries: [...BUCKETS] };
      const timer =
        histograms.get(name) ?? meter.createHistogram(name, { ...helpOf(name), advice });
      histograms.set(name, timer);
      timer.record(seconds, labels);
    },
    gauge(name, read) {
      meter.createObservableGauge(name, helpOf(name)).addCallback(async (result) => {
        for (const { value, labels = {} } of await read()) result.observe(value, labels);
      });
    },
    async close() {
      server.close();
      server.closeAllConnections();
      await provider.shutdown();
    },
  };
};
