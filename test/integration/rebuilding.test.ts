import { afterAll, beforeEach, describe, expect, it } from '@jest/globals';
import { rebuildView } from '../../services/api/coordinator/rebuilds.ts';
import type { BuildState } from '../../services/core/build/build-state.ts';
import { digestOf } from '../../services/core/digest.ts';
import { CreateBuild, type RebuildView } from '../../services/core/protocol/build.ts';
import type { Database } from '../../services/storage/database.ts';
import {
  addArtifact,
  addKernel,
  addSource,
  addToolchain,
  emptyRecord,
} from '../machine/small-record.ts';
import { stillCoordinator, type StillCoordinator } from '../machine/still-coordinator.ts';

const RELEASE = '6.1.0-1-amd64';

describe('a rebuild of a build that is built against another', () => {
  const records: Database[] = [];
  let db: Database;
  let coordinator: StillCoordinator;
  let ground: string;
  let wall: string;
  beforeEach(async () => {
    db = await emptyRecord('rebuilding');
    records.push(db);
    await addKernel(db, RELEASE);
    await addToolchain(db, 'gcc');
    await addSource(db, 'ground');
    await addSource(db, 'wall', ['ground']);
    coordinator = stillCoordinator(db);
    const { build } = await coordinator.request(
      CreateBuild.parse({ source: { name: 'wall' }, kernel: { release: RELEASE } }),
      { token: 'token', role: 'ci', quotas: null },
    );
    wall = build.id;
    ground = build.dependencies[0] ?? '';
    await db.updateTable('builds').set({ state: 'succeeded' }).execute();
    await addArtifact(db, ground, 'exports', digestOf('exports'));
  });
  afterAll(async () => {
    for (const record of records) await record.destroy();
  });

  const stands = (state: BuildState): Promise<unknown> =>
    db.updateTable('builds').set({ state }).where('id', '=', ground).execute();
  const again = ({ id }: RebuildView): Promise<RebuildView> => rebuildView(db, id);
  const failed = (words: RegExp) =>
    expect.objectContaining({
      state: 'failed',
      findings: [expect.stringMatching(words)],
      finishedAt: 2,
    });

  it('is sent to the builders with it', async () => {
    const { id, state } = await coordinator.rebuild(wall);
    expect(state).toBe('running');
    expect(coordinator.builder.jobs.get(id)).toMatchObject({
      build: wall,
      dependencies: [{ source: { name: 'ground' }, exports: digestOf('exports') }],
    });
  });

  it.each(['failed', 'cancelled', 'excluded'] as const)(
    'fails at once where that one is %s by now, saying what to ask for first',
    async (state) => {
      await stands(state);
      expect(await coordinator.rebuild(wall)).toEqual(
        failed(
          new RegExp(
            `^it is built against ground/1\\.0, whose build ${ground} is ${state}; ask for that first ` +
              `\\(kiln build ground/1\\.0 -k ${digestOf(RELEASE)} --toolchain ${digestOf('gcc')} --retry\\), then for this rebuild again$`,
          ),
        ),
      );
    },
  );

  it('fails at once where the record has that one no more', async () => {
    await db.deleteFrom('askers').execute();
    await db.deleteFrom('requests').execute();
    await db.deleteFrom('dependencies').execute();
    await db.deleteFrom('artifacts').where('build', '=', ground).execute();
    await db.deleteFrom('builds').where('id', '=', ground).execute();
    expect(await coordinator.rebuild(wall)).toEqual(
      failed(/whose build [0-9a-f]{24} is not here any more; ask for that first \(kiln build/),
    );
  });

  it('waits while that one is made again, and goes on or fails with it', async () => {
    await stands('building');
    const [first, second] = [await coordinator.rebuild(wall), await coordinator.rebuild(wall)];
    expect([first.state, second.state]).toEqual(['running', 'running']);
    expect(coordinator.builder.jobs.has(first.id)).toBe(false);
    await stands('succeeded');
    await coordinator.sweep();
    await coordinator.sweep();
    expect(coordinator.builder.jobs.has(first.id)).toBe(true);
    await coordinator.builder.remove(second.id);
    await stands('failed');
    await coordinator.sweep();
    await coordinator.sweep();
    expect((await again(first)).state).toBe('running');
    expect(await again(second)).toEqual(failed(/ground\/1\.0, whose build [0-9a-f]{24} is failed/));
  });
});
