import { afterAll, beforeEach, describe, expect, it } from '@jest/globals';
import { digestOf } from '../../services/core/digest.ts';
import type { Outcome } from '../../services/core/jobs/jobs.ts';
import { CreateBuild } from '../../services/core/protocol/build.ts';
import { rebuildView } from '../../services/api/coordinator/rebuilds.ts';
import { unsignedModules } from '../../services/api/record/artifacts.ts';
import { addToolchain as pushToolchain } from '../../services/api/record/toolchains.ts';
import { readWithdrawals } from '../../services/api/record/withdrawn.ts';
import type { Database } from '../../services/storage/database.ts';
import {
  addKernel,
  addSource,
  addToolchain,
  emptyRecord,
  someRecipe,
} from '../machine/small-record.ts';
import { stillCoordinator, type StillCoordinator } from '../machine/still-coordinator.ts';

const RELEASE = '6.1.0-1-amd64';
const ASKER = { token: 'token', role: 'ci', quotas: null } as const;

/** Builders and the signer have keys of their own: a result counts from whoever began that run, and for that run alone. */
describe('what a worker reports', () => {
  const records: Database[] = [];
  let db: Database;
  let coordinator: StillCoordinator;
  let build: string;
  beforeEach(async () => {
    db = await emptyRecord('reporting');
    records.push(db);
    await addKernel(db, RELEASE);
    await addToolchain(db, 'gcc');
    await addSource(db, 'wall');
    coordinator = stillCoordinator(db);
    build = await ask();
  });
  afterAll(async () => {
    for (const record of records) await record.destroy();
  });

  const ask = async (): Promise<string> => {
    const wanted = { source: { name: 'wall' }, kernel: { release: RELEASE } };
    return (await coordinator.request(CreateBuild.parse(wanted), ASKER)).build.id;
  };
  const row = () =>
    db.selectFrom('builds').selectAll().where('id', '=', build).executeTakeFirstOrThrow();
  const started = (attempt = 0): Outcome => ({ kind: 'started', build, attempt });
  const failed = (attempt = 0): Outcome => ({
    kind: 'failed',
    build,
    attempt,
    failure: { code: 'compile-failed', message: 'no', lines: [] },
    log: null,
  });
  const module = (text: string) => ({
    name: 'wall',
    unsigned: digestOf(text),
    size: 1,
    modinfo: [],
  });
  const built = (text: string, attempt = 0): Outcome => ({
    kind: 'built',
    build,
    attempt,
    recipe: { steps: [], modules: { kind: 'every' }, mayLink: false, passedOver: [] },
    modules: [module(text)],
    exports: digestOf('exports'),
    log: digestOf('log'),
    timings: { prepare: 0, sandbox: 0, check: 0 },
  });

  it('changes nothing where nobody began that run', async () => {
    const excluded = {
      kind: 'excluded',
      build,
      attempt: 0,
      reason: 'no',
      log: digestOf(''),
    } as const;
    for (const outcome of [failed(), built('x'), excluded])
      await coordinator.accept(outcome, 'one');
    expect((await row()).state).toBe('queued');
  });

  it('counts from the builder that began it alone', async () => {
    await coordinator.accept(started(), 'one');
    for (const outcome of [failed(), built('evil')]) await coordinator.accept(outcome, 'two');
    expect((await row()).state).toBe('building');
    await coordinator.accept(built('good'), 'one');
    expect(await unsignedModules(db, build)).toEqual([
      { name: 'wall', unsigned: digestOf('good') },
    ]);
  });

  it('counts from the builder that a job went to when the first one had lost it', async () => {
    await coordinator.accept(started(), 'one');
    await coordinator.accept(started(), 'two');
    await coordinator.accept(failed(), 'one');
    expect(await row()).toMatchObject({ state: 'building', builder: 'two' });
    await coordinator.accept(built('good'), 'two');
    expect((await row()).state).not.toBe('building');
  });

  it('changes nothing of a later attempt, and a builder that begins an earlier one is told to stop', async () => {
    await coordinator.accept(started(), 'one');
    await coordinator.cancel(build, null);
    await ask();
    await coordinator.accept(started(1), 'two');
    for (const outcome of [started(), failed(), built('old')])
      await coordinator.accept(outcome, 'one');
    expect(await row()).toMatchObject({ state: 'building', attempt: 1, builder: 'two' });
    expect(coordinator.cancelled.has(`${build}-0`)).toBe(true);
    expect(coordinator.cancelled.has(`${build}-1`)).toBe(false);
  });

  it('is nothing where a builder signs, or a signer builds', async () => {
    const modules = [{ name: 'wall', signed: digestOf('signed') }];
    const signed: Outcome = {
      kind: 'signed',
      build,
      attempt: 0,
      modules,
      attestation: digestOf(''),
    };
    const { failure } = failed() as Extract<Outcome, { kind: 'failed' }>;
    const unsignable: Outcome = { kind: 'unsignable', build, attempt: 0, failure };
    await coordinator.signed(started());
    expect((await row()).state).toBe('queued');
    await db.updateTable('builds').set({ state: 'signing', recipe: someRecipe }).execute();
    for (const outcome of [signed, unsignable]) await coordinator.accept(outcome, 'one');
    for (const outcome of [failed(), built('x')]) await coordinator.signed(outcome);
    expect((await row()).state).toBe('signing');
    await coordinator.signed(signed);
    expect((await row()).state).toBe('succeeded');
  });

  it('is nothing for a rebuild that another builder makes; one that differs withdraws the build', async () => {
    await coordinator.begun({ build, attempt: 0 }, built('good'));
    await db.updateTable('builds').set({ state: 'succeeded' }).execute();
    const { id } = await coordinator.rebuild(build);
    const outcome: Outcome = {
      kind: 'rebuilt',
      rebuild: id,
      modules: [module('x')],
      failure: null,
    };
    await coordinator.accept(outcome, 'two');
    await coordinator.accept({ kind: 'rebuilding', rebuild: id }, 'one');
    await coordinator.accept(outcome, 'two');
    expect(await rebuildView(db, id)).toMatchObject({ state: 'running' });
    expect(await readWithdrawals(db)).toEqual([]);
    await coordinator.accept(outcome, 'one');
    expect(await rebuildView(db, id)).toMatchObject({ state: 'different', findings: ['wall.ko'] });
    expect(await readWithdrawals(db)).toMatchObject([{ kind: 'build', id: build }]);
  });

  it('is nothing for a toolchain that another builder measures, or was measured before', async () => {
    const toolchain = digestOf('hollow');
    const push = () => pushToolchain({ db, now: () => 3 }, toolchain, 'hollow', false, 'token');
    const problem = 'it cannot be used';
    const found = (attempt: number): Outcome => ({
      kind: 'unmeasurable',
      toolchain,
      attempt,
      problem,
    });
    await push();
    await coordinator.accept({ kind: 'measuring', toolchain, attempt: 0 }, 'one');
    await coordinator.accept(found(0), 'two');
    expect((await push()).state).toBe('measuring');
    await coordinator.accept(found(0), 'one');
    expect((await push()).attempt).toBe(1);
    await coordinator.accept({ kind: 'measuring', toolchain, attempt: 1 }, 'one');
    await coordinator.accept(found(0), 'one');
    expect((await push()).state).toBe('measuring');
  });
});
