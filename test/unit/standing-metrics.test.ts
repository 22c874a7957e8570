import { describe, expect, it } from '@jest/globals';
import type { Standing } from '../../client/installed/standing.ts';
import { standingMetrics } from '../../client/installed/standing-metrics.ts';

const row = (name: string, state: Standing['state']): Standing => ({
  name,
  state,
  release: '6.1.0-57-amd64',
  because: [],
  since: null,
  older: null,
  receipt: null,
});

describe('a host’s modules as metrics', () => {
  const lines = (rows: readonly Standing[]): readonly string[] =>
    standingMetrics(rows, { isInterrupted: false, now: 1_500 }).split('\n');

  it('have each state, also with none in it', () => {
    expect(lines([row('zfs', 'failed')])).toEqual(
      expect.arrayContaining([
        'kiln_host_modules{state="failed"} 1',
        'kiln_host_modules{state="installed"} 0',
        'kiln_host_module{name="zfs",release="6.1.0-57-amd64",state="failed",version=""} 1',
        'kiln_host_interrupted 0',
        'kiln_host_looked_at_seconds 1',
      ]),
    );
  });

  it('stay within their quotes, whatever a source is called', () => {
    const [line = ''] = lines([row('a"} 1\nb\\', 'missing')]).filter((each) =>
      each.startsWith('kiln_host_module{'),
    );
    expect(line).toContain('name="a\\"} 1\\nb\\\\"');
  });
});
