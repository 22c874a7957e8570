import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import {
  promoteToolchain,
  retireToolchain,
  takeMeasurement,
} from '../../services/api/record/toolchains.ts';
import { isFinished } from '../../services/core/build/build-state.ts';
import { digestOf } from '../../services/core/digest.ts';
import type { Role } from '../../services/core/policy/policy.ts';
import { CreateBuild, type BuildTicket } from '../../services/core/protocol/build.ts';
import type { Database } from '../../services/storage/database.ts';
import { inEveryOrder, type Acts, type Both } from '../machine/interleave.ts';
import { addKernel, addSource, addToolchain } from '../machine/small-record.ts';
import { stillCoordinator, type StillCoordinator } from '../machine/still-coordinator.ts';
import { emptyRecord } from '../machine/small-record.ts';

const RELEASE = '6.1.0-1-amd64';
const CANDIDATE = digestOf('new-gcc');
const TAILORED = { settings: { '/etc/default/wall': 'height=3\n' } };

/** A house that is built on a ground, a pinned toolchain and a candidate for its place. */
interface Scene {
  readonly db: Database;
  readonly coordinator: StillCoordinator;
}

const scene = async (...before: readonly ((scene: Scene) => Promise<unknown>)[]) => {
  const db = await emptyRecord('concurrent');
  await addKernel(db, RELEASE);
  await addToolchain(db, 'gcc');
  await addToolchain(db, 'new-gcc');
  await db
    .updateTable('toolchains')
    .set({ name: 'gcc', state: 'candidate', pinned_at: null })
    .where('digest', '=', CANDIDATE)
    .execute();
  await addSource(db, 'ground');
  await addSource(db, 'house', ['ground']);
  const made: Scene = { db, coordinator: stillCoordinator(db) };
  for (const act of before) await act(made);
  return made;
};

const ask =
  (name: string, more: object = {}, role: Role = 'ci') =>
  ({ coordinator }: Scene): Promise<BuildTicket> =>
    coordinator.request(
      CreateBuild.parse({ source: { name }, kernel: { release: RELEASE }, ...more }),
      { token: 'token', role, quotas: null },
    );

const rowOf = (db: Database, name: string) =>
  db
    .selectFrom('builds')
    .innerJoin('sources', 'sources.digest', 'builds.source')
    .selectAll('builds')
    .where('sources.name', '=', name)
    .executeTakeFirstOrThrow();

const fail =
  (name: string) =>
  async ({ db, coordinator }: Scene): Promise<void> => {
    const { id: build, attempt } = await rowOf(db, name);
    const failure = { code: 'compile-failed', message: 'no', lines: [] } as const;
    const run = { build, attempt };
    await coordinator.begun(run, { kind: 'failed', ...run, failure, log: null });
  };

const build =
  (name: string) =>
  async ({ db, coordinator }: Scene): Promise<void> => {
    const { id, attempt } = await rowOf(db, name);
    const run = { build: id, attempt };
    await coordinator.begun(run, {
      kind: 'built',
      ...run,
      recipe: { steps: [], modules: { kind: 'every' }, mayLink: false, passedOver: [] },
      modules: [{ name, unsigned: digestOf(name), size: 1, modinfo: [] }],
      exports: digestOf('exports'),
      log: digestOf('log'),
      timings: { prepare: 0, sandbox: 0, check: 0 },
    });
  };

const sign =
  (name: string) =>
  async ({ db, coordinator }: Scene): Promise<void> => {
    const { id, attempt } = await rowOf(db, name);
    await coordinator.signed({
      kind: 'signed',
      build: id,
      attempt,
      modules: [{ name, signed: digestOf(`signed ${name}`) }],
      attestation: digestOf('attestation'),
    });
  };

const cancelAll =
  (name: string) =>
  async ({ db, coordinator }: Scene): Promise<void> =>
    coordinator.cancel((await rowOf(db, name)).id, null);

const promote = ({ db }: Scene): Promise<unknown> =>
  promoteToolchain({ db, now: () => 3 }, CANDIDATE, true);

const stateOf = async ({ db }: Scene, name: string): Promise<string> =>
  (await rowOf(db, name)).state;

/** What is wrong with a refusal, with an answer, or with what is left. */
const wrongIn = async (both: Both<unknown, unknown>, here: Scene): Promise<string | null> => {
  for (const end of [both.first, both.second]) {
    if (end.status === 'rejected') return String(end.reason);
    const problem = isTicket(end.value) ? await wrongWith(end.value, here) : null;
    if (problem !== null) return problem;
  }
  const builds = await here.db.selectFrom('builds').select(['id', 'attempt', 'state']).execute();
  for (const { id, attempt, state } of builds) {
    const requests = await here.db
      .selectFrom('requests')
      .select('id')
      .where('build', '=', id)
      .execute();
    if (isFinished(state) && requests.length > 0) return `${state}, and waited for`;
    if (state !== 'queued' || here.coordinator.builder.jobs.has(`${id}-${attempt}`)) continue;
    const needs = await here.db
      .selectFrom('dependencies')
      .innerJoin('builds', 'builds.id', 'dependencies.needs')
      .select('builds.state')
      .where('dependencies.build', '=', id)
      .execute();
    if (needs.every((need) => isFinished(need.state))) return 'queued on no queue';
  }
  return null;
};

const isTicket = (value: unknown): value is BuildTicket =>
  typeof value === 'object' && value !== null && 'cached' in value;

const wrongWith = async (
  { build: told, request, cached }: BuildTicket,
  { db }: Scene,
): Promise<string | null> => {
  if (cached)
    return isFinished(told.state) ? null : `told that it has ended, while it is ${told.state}`;
  const { state } = await db
    .selectFrom('builds')
    .select('state')
    .where('id', '=', told.id)
    .executeTakeFirstOrThrow();
  const row = await db
    .selectFrom('requests')
    .select('id')
    .where('id', '=', request)
    .executeTakeFirst();
  return isFinished(state) || row !== undefined ? null : 'forgotten who waits';
};

describe('what happens at the same time', () => {
  const mustBeRight = async <A, B>(
    acts: Omit<Acts<Scene, A, B>, 'wrong'>,
    wrong: (here: Scene) => Promise<string | null> = () => Promise.resolve(null),
  ): Promise<void> => {
    const found = await inEveryOrder({
      ...acts,
      wrong: async (both, here) => (await wrongIn(both, here)) ?? wrong(here),
    });
    expect(found).toEqual([]);
  };
  const mustBe = (name: string, expected: string) => async (here: Scene) => {
    const state = await stateOf(here, name);
    return state === expected ? null : `${name} is ${state}`;
  };

  it('refuses nobody who names no toolchain while another one takes its place', async () => {
    await mustBeRight({ prepare: scene, first: ask('house'), second: promote });
  });

  it('pins one toolchain of a name, though one is measured while another is promoted', async () => {
    const measuring = async ({ db }: Scene): Promise<void> => {
      await db
        .updateTable('toolchains')
        .set({ state: 'measuring', builder: 'builder' })
        .where('state', '=', 'pinned')
        .execute();
    };
    await mustBeRight(
      {
        prepare: () => scene(measuring),
        first: ({ db }) =>
          takeMeasurement(
            { db, now: () => 3 },
            { toolchain: digestOf('gcc'), attempt: 0, builder: 'builder' },
            {} as never,
          ),
        second: promote,
      },
      async ({ db }) => {
        const pinned = await db
          .selectFrom('toolchains')
          .select('digest')
          .where('state', '=', 'pinned')
          .execute();
        return pinned.length === 1 ? null : `${pinned.length} are pinned`;
      },
    );
  });

  it('takes a toolchain out of use once, though a client whose answer was lost asks again', async () => {
    const { db } = await scene();
    const retire = (at: number) => retireToolchain({ db, now: () => at }, digestOf('gcc'));
    const first = await retire(3);
    expect(await retire(4)).toEqual(first);
    await db.destroy();
  });

  it('signs for ci what it asks for while that ends unsigned for a client', async () => {
    const asked = () => scene(ask('ground', TAILORED, 'client'));
    const [ends, joins] = [build('ground'), ask('ground', TAILORED)];
    const signing = mustBe('ground', 'signing');
    await mustBeRight({ prepare: asked, first: ends, second: joins }, signing);
    await mustBeRight({ prepare: asked, first: joins, second: ends }, signing);
  });

  it('signs once what several ask for that was unsigned', async () => {
    await mustBeRight(
      {
        prepare: () => scene(ask('ground', TAILORED, 'client'), build('ground')),
        first: ask('ground', TAILORED),
        second: async (here) => {
          await ask('ground', TAILORED)(here);
          await sign('ground')(here);
        },
      },
      mustBe('ground', 'succeeded'),
    );
  });

  it('tells nobody that a build has ended which another one retries', async () => {
    const failed = () => scene(ask('ground'), fail('ground'));
    const [asks, retries] = [ask('ground'), ask('ground', { retry: true })];
    await mustBeRight({ prepare: failed, first: asks, second: retries });
    await mustBeRight({ prepare: failed, first: retries, second: asks });
  });

  it('remembers who retries a build that fails just now', async () => {
    const asked = () => scene(ask('ground'));
    const [fails, retries] = [fail('ground'), ask('ground', { retry: true })];
    await mustBeRight({ prepare: asked, first: fails, second: retries });
    await mustBeRight({ prepare: asked, first: retries, second: fails });
  });

  it('fails no build for another one that is retried', async () => {
    const asked = () => scene(ask('house'));
    const [fails, retries] = [fail('ground'), ask('house', { retry: true })];
    const bothOrNone = async (here: Scene): Promise<string | null> => {
      const [ground, house] = [await stateOf(here, 'ground'), await stateOf(here, 'house')];
      return ground === house ? null : `the house is ${house}, the ground ${ground}`;
    };
    await mustBeRight({ prepare: asked, first: fails, second: retries }, bothOrNone);
    await mustBeRight({ prepare: asked, first: retries, second: fails }, bothOrNone);
  });

  it('leads on who joins while what he needs ends, well or not', async () => {
    const asked = () => scene(ask('ground'));
    const joins = ask('house');
    for (const ends of [
      fail('ground'),
      async (here: Scene) => {
        await build('ground')(here);
        await sign('ground')(here);
      },
    ]) {
      await mustBeRight({ prepare: asked, first: joins, second: ends });
      await mustBeRight({ prepare: asked, first: ends, second: joins });
    }
  });

  it.each(['ground', 'house'])(
    'keeps the %s for who joins while another one takes its request back',
    async (name) => {
      let one: BuildTicket | undefined;
      const asked = () =>
        scene(async (here) => {
          one = await ask(name)(here);
        });
      const takesBack = ({ coordinator }: Scene): Promise<void> =>
        coordinator.cancel(one?.build.id ?? '', one?.request ?? '');
      const goesOn = mustBe(name, 'queued');
      await mustBeRight({ prepare: asked, first: takesBack, second: ask(name) }, goesOn);
      await mustBeRight({ prepare: asked, first: ask(name), second: takesBack }, goesOn);
    },
  );

  it('ends or begins anew as a whole what an admin cancels while another one asks for it', async () => {
    const asked = () => scene(ask('house'));
    for (const name of ['ground', 'house']) {
      await mustBeRight({ prepare: asked, first: cancelAll(name), second: ask('house') });
      await mustBeRight({ prepare: asked, first: ask('house'), second: cancelAll(name) });
      await mustBeRight({ prepare: asked, first: build('ground'), second: cancelAll(name) });
    }
  });
});

describe('a record while Redis is away', () => {
  let here: Scene;
  beforeEach(async () => {
    here = await scene();
    here = { ...here, coordinator: stillCoordinator(here.db, () => new Promise(() => {})) };
  });
  afterEach(() => here.db.destroy());

  it('is read and written all the same when a build was cancelled, which nobody hears of yet', async () => {
    const { build: asked, request } = await ask('ground')(here);
    here.coordinator.cancel(asked.id, request).catch(() => {});
    // The record would wait for ever, and the test run out of time.
    expect(await stateOf(here, 'ground')).toBe('cancelled');
  });
});
