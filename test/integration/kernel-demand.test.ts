import { rename } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { createArchives } from '../../services/api/coordinator/archives.ts';
import {
  createKernelDemand,
  type KernelDemand,
  type Sought,
} from '../../services/api/coordinator/kernel-demand.ts';
import { createKernelIntake } from '../../services/api/coordinator/kernel-intake.ts';
import { orFetch } from '../../services/api/http/missing-kernel.ts';
import { KernelMissing } from '../../services/api/record/find-kernel.ts';
import { CreateBuild } from '../../services/core/protocol/build.ts';
import { openBlobDirectory } from '../../services/storage/blobs.ts';
import type { Database } from '../../services/storage/database.ts';
import type { Log } from '../../services/storage/log.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { makeArchive, type OwnArchive } from '../machine/own-archive.ts';
import { addSource, emptyRecord } from '../machine/small-record.ts';
import { refusal } from '../unit/samples.ts';

/** Kernels that are fetched because somebody asks for them: a real archive, apt and record. */

const OLD = '6.1.0-9-amd64';
const MINUTE = 60_000;

/** The least headers of a kernel. */
const headersOf = (release: string, build = '#1 SMP Debian 6.1.1-1') => ({
  [`usr/src/linux-headers-${release}/.config`]: 'CONFIG_X86_64=y\nCONFIG_SMP=y\n',
  [`usr/src/linux-headers-${release}/include/generated/utsrelease.h`]: `#define UTS_RELEASE "${release}"\n`,
  [`usr/src/linux-headers-${release}/include/generated/compile.h`]: `#define UTS_VERSION "${build}"\n`,
  [`usr/src/linux-headers-${release}/Makefile`]: 'all:\n',
});

describe('a kernel that somebody asks for', () => {
  let db: Database;
  let archive: OwnArchive;
  let demand: KernelDemand;
  let now: number;

  beforeEach(async () => {
    now = 1_000_000_000;
    db = await emptyRecord('kernel-demand');
    const deps = {
      db,
      blobs: await openBlobDirectory(await freshDirectory('blobs')),
      now: () => now,
      blobLimit: 1e9,
      directory: await freshDirectory('apt'),
      log: { warn() {} } as unknown as Log,
    };
    const archives = createArchives(deps);
    demand = createKernelDemand({ ...deps, archives, intake: createKernelIntake(deps) });
    archive = await makeArchive('archive');
  });
  afterEach(async () => {
    await demand.settled();
    await db.destroy();
  });

  const follow = async (name: string, sources: string): Promise<void> => {
    await db
      .insertInto('archives')
      .values({
        name,
        kind: 'apt',
        sources,
        headers: 'linux-headers-(?<release>6\\.1\\.0-\\d+-(?<flavour>amd64))',
        modules: null,
        builds_ahead: 0,
        newest: null,
        made_by: 'admin',
        created_at: 1,
      })
      .execute();
  };
  const addKernel = async (release: string, version = '6.1.1-1'): Promise<void> => {
    const control = { name: `linux-headers-${release}`, version };
    await archive.add(control, headersOf(release, `#1 SMP Debian ${version}`));
  };
  const seek = (release: string, token = 'host'): Promise<Sought> => demand.seek(release, token);
  /** What is said once the search that this begins has ended. */
  const seekToTheEnd = async (release: string): Promise<Sought> => {
    expect(await seek(release)).toMatchObject({ kind: 'under way' });
    await demand.settled();
    return seek(release);
  };
  const kernels = () => db.selectFrom('kernels').select(['release', 'trust']).execute();
  const wasTakenIn = { kind: 'none', why: expect.stringMatching(/own has no other headers/) };
  const nobodyHas = { kind: 'none', why: 'no archive that is followed has it' };

  it('is looked for nowhere where no archive is followed', async () => {
    expect(await seek(OLD)).toEqual({ kind: 'none', why: null });
  });

  it('is taken in as verified, whatever the pattern of those that are followed, once for all who ask', async () => {
    for (const release of [OLD, '6.1.0-10-amd64', '6.12.1-rt-amd64']) await addKernel(release);
    await archive.publish();
    await follow('own', archive.sources);
    const asked = await Promise.all(
      Array.from({ length: 20 }, (_, host) => seek(OLD, `host ${host}`)),
    );
    expect(new Set(asked.map(({ kind }) => kind))).toEqual(new Set(['under way']));
    await demand.settled();
    expect(await kernels()).toEqual([{ release: OLD, trust: 'archive' }]);
    expect(await seek(OLD)).toEqual(wasTakenIn);
    await seekToTheEnd('6.12.1-rt-amd64');
    expect(await kernels()).toHaveLength(2);
  });

  it('says meanwhile what is done, in the end that nobody has it, and then costs nothing', async () => {
    await addKernel(OLD);
    await archive.publish();
    await follow('own', archive.sources);
    expect(await seek('6.1.0-8-amd64')).toEqual({
      kind: 'under way',
      words: 'looking for kernel 6.1.0-8-amd64 in the archives that are followed',
    });
    await demand.settled();
    // From here on the archive could not be read.
    await rename(archive.directory, `${archive.directory}-gone`);
    expect(await seek('6.1.0-8-amd64')).toEqual(nobodyHas);
    expect(await seekToTheEnd('6.1.0-7-amd64')).toEqual(nobodyHas);
    expect(await seek('6.1.0-7-amd64 or so')).toEqual({ kind: 'none', why: null });
  });

  it('is found once the archive has it: when the answer is over, or archives have changed', async () => {
    await archive.publish();
    await follow('own', archive.sources);
    expect(await seekToTheEnd(OLD)).toEqual(nobodyHas);
    await addKernel(OLD);
    await archive.publish();
    expect(await seek(OLD)).toEqual(nobodyHas);
    now += 6 * MINUTE;
    expect(await seekToTheEnd(OLD)).toEqual(wasTakenIn);
    expect(await kernels()).toHaveLength(1);
    expect(await seekToTheEnd('6.1.0-8-amd64')).toEqual(nobodyHas);
    demand.forget();
    expect(await seek('6.1.0-8-amd64')).toMatchObject({ kind: 'under way' });
  });

  it('comes in again as another kernel where the archive has other headers of it', async () => {
    await addKernel(OLD);
    await archive.publish();
    await follow('own', archive.sources);
    await seekToTheEnd(OLD);
    await addKernel(OLD, '6.1.2-1');
    await archive.publish();
    now += 6 * MINUTE;
    await seekToTheEnd(OLD);
    expect(await kernels()).toHaveLength(2);
  });

  it('is had of another archive where one cannot be read, else the reason is said', async () => {
    await addKernel(OLD);
    await archive.publish();
    const broken = await makeArchive('broken');
    await follow('a-broken-one', broken.sources);
    const why = /^it could not be fetched from a-broken-one: apt-get update failed/;
    expect(await seekToTheEnd(OLD)).toEqual({ kind: 'none', why: expect.stringMatching(why) });
    await follow('own', archive.sources);
    demand.forget();
    expect(await seekToTheEnd(OLD)).toEqual(wasTakenIn);
  });

  it('is not believed with other bytes than the archive’s signed metadata names', async () => {
    await addKernel(OLD);
    await archive.publish();
    await archive.remove(`linux-headers-${OLD}`);
    await archive.add({ name: `linux-headers-${OLD}`, version: '6.1.1-1' }, headersOf(OLD, '#666'));
    await follow('own', archive.sources);
    expect(await seekToTheEnd(OLD)).toMatchObject({
      why: expect.stringMatching(/could not be fetched from own: apt-get download failed/),
    });
    expect(await kernels()).toEqual([]);
    expect(await db.selectFrom('uploads').selectAll().execute()).toEqual([]);
  });

  it('is found in a snapshot, whose metadata is out of date, where the admin says that it may be', async () => {
    await addKernel(OLD);
    await archive.publish('Sat, 01 Jan 2022 00:00:00 UTC');
    await follow('own', archive.sources);
    expect(await seekToTheEnd(OLD)).toMatchObject({ why: expect.stringMatching(/expired/) });
    const text = `${archive.sources}Check-Valid-Until: no\n`;
    await db.updateTable('archives').set({ sources: text }).execute();
    demand.forget();
    expect(await seekToTheEnd(OLD)).toEqual(wasTakenIn);
  });

  it('is not refused to somebody who asked just before it came', async () => {
    await addKernel(OLD);
    await archive.publish();
    await follow('own', archive.sources);
    await addSource(db, 'hello');
    const wanted = CreateBuild.parse({ source: { name: 'hello' }, kernel: { release: OLD } });
    const reader = { token: 'host', role: 'client' } as const;
    const asked = (answers: readonly unknown[]): Promise<unknown> => {
      const left = [...answers];
      return orFetch({ db, kernelDemand: demand }, reader, wanted, async () => {
        const answer = left.shift();
        if (answer instanceof Error) throw answer;
        return answer;
      });
    };
    const missing = new KernelMissing('it is not here', OLD);
    expect(await asked([missing])).toEqual({ waiting: expect.stringMatching(/looking for/) });
    await demand.settled();
    expect(await asked([missing, 'the build'])).toBe('the build');
    await expect(asked([missing, missing])).rejects.toEqual(
      refusal('not-found', /^it is not here; the archive own has no other headers of it$/),
    );
  });

  it('waits for others: a token has four under way, all together sixteen', async () => {
    await archive.publish();
    await follow('own', archive.sources);
    const release = (number: number): string => `6.1.0-${number}-amd64`;
    for (let each = 0; each < 4; each += 1) await seek(release(each), 'greedy');
    await expect(seek(release(4), 'greedy')).rejects.toEqual(refusal('too-many', /4 of them/));
    expect(await seek(release(0), 'greedy')).toMatchObject({ kind: 'under way' });
    for (let each = 4; each < 16; each += 1) await seek(release(each), `host ${each}`);
    await expect(seek(release(16))).rejects.toEqual(refusal('too-many', /16 kernels/));
    await demand.settled();
    expect(await seek(release(16))).toMatchObject({ kind: 'under way' });
  });
});
