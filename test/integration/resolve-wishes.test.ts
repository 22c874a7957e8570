import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { z } from 'zod';
import { resolveWishes } from '../../services/api/resolve-wishes.ts';
import { digestOf } from '../../services/core/digest.ts';
import { CreateBuild } from '../../services/core/protocol.ts';
import { openDatabase, type Database } from '../../services/storage/database.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { debianKernel, dkmsSource } from '../unit/samples.ts';

const KERNELS = [
  '6.1.0-1-amd64',
  '6.1.0-2-amd64',
  '6.1.0-3-amd64',
  '6.1.0-4-amd64',
  '6.1.0-5-amd64',
];
const SOURCES = Array.from({ length: 20 }, (_, index) => `module${index}`);

describe('what wishes would be built as', () => {
  let db: Database;

  beforeAll(async () => {
    db = await openDatabase(join(await freshDirectory('resolve'), 'kiln.db'));
    const stored = { blob: digestOf('blob'), layout: '[]', trust: 'admin', created_at: 1 };
    for (const release of KERNELS) {
      const kernel = { ...debianKernel, digest: digestOf(release), release };
      await db
        .insertInto('kernels')
        .values({
          ...stored,
          digest: kernel.digest,
          release,
          arch: kernel.arch,
          record: JSON.stringify(kernel),
        })
        .execute();
    }
    // Each is built against the two before it.
    for (const [index, name] of SOURCES.entries()) {
      const depends = SOURCES.slice(Math.max(0, (index % 8) - 2), index % 8);
      const { tree, version, kind, autoinstall, needs, settings } = dkmsSource;
      const digest = digestOf(name);
      await db
        .insertInto('sources')
        .values({
          ...stored,
          digest,
          tree,
          name,
          version,
          kind,
          claims: JSON.stringify({ autoinstall, depends, needs, settings }),
          commit_id: null,
        })
        .execute();
      await db
        .insertInto('source_names')
        .values({ name, version, source: digest, created_at: 1 })
        .execute();
    }
    const packages = Array.from({ length: 500 }, (_, index) => ({
      name: `package-${index}`,
      version: '1:2.3.4-5+deb12u6',
      arch: 'amd64',
    }));
    const tool = { path: '/usr/bin/gcc-12', version: debianKernel.compiler };
    const contents = {
      arch: 'x86_64',
      os: 'Debian GNU/Linux 12',
      libc: 'ldd (Debian GLIBC 2.36-9) 2.36',
      compilers: [tool],
      linker: { path: '/usr/bin/ld', version: 'GNU ld (GNU Binutils for Debian) 2.40' },
      lld: null,
      assembler: { path: '/usr/bin/as', version: 'GNU assembler (GNU Binutils for Debian) 2.40' },
      pahole: null,
      rustc: null,
      make: { path: '/usr/bin/make', version: 'GNU Make 4.3' },
      packages,
    };
    for (const name of ['one', 'two', 'three', 'four'])
      await db
        .insertInto('toolchains')
        .values({
          digest: digestOf(name),
          name,
          state: 'pinned',
          is_candidate: 0,
          contents: JSON.stringify(contents),
          problem: null,
          created_at: 1,
          pinned_at: 1,
          retired_at: null,
        })
        .execute();
  });
  afterAll(() => db.destroy());

  const wish = (name: string, release: string): z.input<typeof CreateBuild> => ({
    source: { name },
    kernel: { release },
  });

  it('is said of 20 modules on 5 kernels in well under a second', async () => {
    const wishes = SOURCES.flatMap((name) => KERNELS.map((release) => wish(name, release)));
    const started = performance.now();
    const views = await resolveWishes(
      db,
      wishes.map((each) => CreateBuild.parse(each)),
      digestOf('script'),
    );
    expect(performance.now() - started).toBeLessThan(1000);
    expect(views).toHaveLength(100);
    expect(views.filter((view) => 'problem' in view)).toEqual([]);
    process.stderr.write(`100 wishes: ${Math.round(performance.now() - started)} ms\n`);
  });
});
