import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { z } from 'zod';
import { resolveWishes } from '../../services/api/record/resolve-wishes.ts';
import { digestOf } from '../../services/core/digest.ts';
import { CreateBuild } from '../../services/core/protocol/build.ts';
import type { Database } from '../../services/storage/database.ts';
import {
  addKernel,
  addSource,
  addToolchain,
  countStatements,
  emptyRecord,
} from '../machine/small-record.ts';

const KERNELS = [
  '6.1.0-1-amd64',
  '6.1.0-2-amd64',
  '6.1.0-3-amd64',
  '6.1.0-4-amd64',
  '6.1.0-5-amd64',
];
const SOURCES = Array.from({ length: 20 }, (_, index) => `module${index}`);

/** What this process computes meanwhile, in microseconds: it grows with the work, not with how busy the machine is. */
const cpuTime = async (work: () => Promise<unknown>): Promise<number> => {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return user + system;
};

describe('what wishes would be built as', () => {
  let db: Database;

  beforeAll(async () => {
    db = await emptyRecord('resolve');
    for (const release of KERNELS) await addKernel(db, release);
    // Each is built against the two before it.
    for (const [index, name] of SOURCES.entries())
      await addSource(db, name, SOURCES.slice(Math.max(0, (index % 8) - 2), index % 8));
    for (const name of ['one', 'two', 'three', 'four']) await addToolchain(db, name, 500);
  });
  afterAll(() => db.destroy());

  const wish = (name: string, release: string): z.input<typeof CreateBuild> => ({
    source: { name },
    kernel: { release },
  });

  const resolve = (record: Database, wishes: readonly z.input<typeof CreateBuild>[]) =>
    resolveWishes(
      record,
      wishes.map((each) => CreateBuild.parse(each)),
      digestOf('script'),
      { token: 'token', role: 'client' },
      (_, ask) => ask(),
    );

  it('is said of 20 modules on 5 kernels with a few looks at the record for each', async () => {
    const wishes = SOURCES.flatMap((name) => KERNELS.map((release) => wish(name, release)));
    const { counted, statements } = countStatements(db);
    const started = performance.now();
    const views = await resolve(counted, wishes);
    expect(statements()).toBeLessThanOrEqual(3 * 100);
    expect(views).toHaveLength(100);
    expect(views.filter((view) => 'problem' in view)).toEqual([]);
    process.stderr.write(`100 wishes: ${Math.round(performance.now() - started)} ms\n`);
  });

  it('is said of 1000 wishes for the work of some that come alone, though each is built against 64 others', async () => {
    const layers = Array.from({ length: 32 }, (_, layer) => [`left${layer}`, `right${layer}`]);
    for (const [layer, names] of layers.entries())
      for (const name of names) await addSource(db, name, layers.slice(layer + 1).flat());
    await addSource(db, 'layered', layers.flat());
    const wishes = Array.from({ length: 1000 }, () => wish('layered', KERNELS[0] ?? ''));
    const alone = await cpuTime(async () => {
      for (const each of wishes.slice(0, 10)) await resolve(db, [each]);
    });
    const { counted, statements } = countStatements(db);
    let views: Awaited<ReturnType<typeof resolve>> = [];
    const started = performance.now();
    const together = await cpuTime(async () => {
      views = await resolve(counted, wishes);
    });
    expect(statements()).toBeLessThanOrEqual(3 * 1000);
    // As much as of 200 that come alone: here it is some 20, and 1000 if nothing were kept.
    expect(together).toBeLessThan(20 * alone);
    expect(new Set(views.map((view) => JSON.stringify(view))).size).toBe(1);
    expect(views[0]).toHaveProperty('fingerprint');
    process.stderr.write(`1000 wishes: ${Math.round(performance.now() - started)} ms\n`);
  });
});
