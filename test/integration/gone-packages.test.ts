import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import {
  findOrMakePackage,
  type PackageRequest,
  type PackageRow,
} from '../../services/api/record/packages.ts';
import { digestOf } from '../../services/core/digest.ts';
import type { PackageFormat } from '../../services/core/packages/plan.ts';
import type { Database } from '../../services/storage/database.ts';
import { fromJson, toJson } from '../../services/storage/json-text.ts';
import { addToolchain } from '../machine/small-record.ts';
import { emptyRecord } from '../machine/small-record.ts';

/** Packages whose files went, when they are asked for again. */

const subject: PackageRequest['subject'] = {
  kind: 'modules',
  build: '0123456789abcdef01234567',
  source: { name: 'camera', version: '1.0' },
  kernel: { release: '6.1.0-57-amd64', arch: 'x86_64', version: '6.1.192-3' },
  modules: [{ name: 'camera', signed: digestOf('ko'), size: 2, license: 'GPL' }],
  files: [],
  needs: [],
  attestation: { digest: digestOf('attestation'), size: 11 },
};
const SCRIPT = digestOf('script');
let db: Database;
let now: number;

const ask = (format: PackageFormat, script = SCRIPT): Promise<PackageRow> =>
  findOrMakePackage(
    db,
    { format, subject, key: 'key', madeBy: 'admin', isRetry: false },
    { script, now },
  );
const set = (id: string, change: Partial<PackageRow>): Promise<unknown> =>
  db.updateTable('packages').set(change).where('id', '=', id).execute();
const goes = (id: string): Promise<unknown> =>
  set(id, { state: 'gone', gone_digest: digestOf('file'), digest: null, finished_at: now });
/** Pins a toolchain that packs .deb. */
const pin = async (name: string): Promise<void> => {
  await addToolchain(db, name);
  const { contents } = await db
    .selectFrom('toolchains')
    .select('contents')
    .where('name', '=', name)
    .executeTakeFirstOrThrow();
  if (contents === null) throw new Error('not measured');
  const packages = ['dpkg', 'xz-utils'].map((each) => ({
    name: each,
    version: '9',
    arch: 'amd64',
  }));
  await db
    .updateTable('toolchains')
    .set({ contents: toJson({ ...fromJson(contents), packages }) })
    .where('name', '=', name)
    .execute();
};

beforeEach(async () => {
  db = await emptyRecord('gone-packages');
  now = 1_000_000_000;
  await pin('one');
});
afterEach(() => db.destroy());

describe('a package whose file went', () => {
  it.each(['deb', 'sysext'] as const)('is made again as what it was: %s', async (format) => {
    const { id, version } = await ask(format);
    await goes(id);
    now += 1000;
    expect(await ask(format)).toMatchObject({
      id,
      version,
      state: 'queued',
      attempt: 1,
      // What came since stays for now: its builder may store it before it reports it.
      created_at: now,
      gone_digest: digestOf('file'),
    });
  });

  it('is made by the tools that it was made by, as long as these are pinned', async () => {
    const { id, toolchain } = await ask('deb');
    await goes(id);
    await pin('a-name-that-comes-first');
    expect(await ask('deb')).toMatchObject({ id, toolchain });
  });

  it('is another version where the tools are others, and then stays that', async () => {
    const { id, version } = await ask('deb');
    await goes(id);
    const other = await ask('deb', digestOf('another script'));
    expect(other).toMatchObject({ state: 'queued', gone_digest: null });
    expect([version, other.version]).toEqual(['1.0-0+6.1.192.3+1', '1.0-0+6.1.192.3+2']);
    expect((await ask('deb')).id).toBe(other.id);
  });

  it('is another version where it came again with other bytes', async () => {
    const { id } = await ask('sysext');
    await goes(id);
    await ask('sysext');
    await set(id, { state: 'failed', problem: 'other bytes', finished_at: now });
    expect((await ask('sysext')).state).toBe('failed');
    now += 3_600_000;
    expect(await ask('sysext')).toMatchObject({
      version: '1.0-0+6.1.192.3+2',
      state: 'queued',
      gone_digest: null,
    });
  });
});
