import { digestOf, type Digest } from '../../services/core/digest.ts';
import { fingerprintInputs } from '../../services/core/build/fingerprint.ts';
import type { Recipe } from '../../services/core/build/recipe.ts';
import { debPlan } from '../../services/core/packages/deb-plan.ts';
import type { ToolchainContents } from '../../services/core/toolchain/measurement.ts';
import { openDatabase, type Database } from '../../services/storage/database.ts';
import { toJson } from '../../services/storage/json-text.ts';
import type { ArtifactKind, Schema } from '../../services/storage/schema.ts';
import { debianKernel, dkmsSource } from '../unit/samples.ts';
import { freshDirectory } from './make-source.ts';
import { recordIn } from './record-place.ts';

/** A record of truth in a fresh file, with as much in it as a test says: rows without the bytes they stand for. */

const stored = {
  blob: digestOf('blob'),
  layout: toJson([]),
  trust: 'admin' as const,
  made_by: 'test',
  created_at: 1,
};

/** A recipe, as a build that was built has one. */
export const someRecipe = toJson<Recipe>({
  steps: [],
  modules: { kind: 'every' },
  mayLink: true,
  passedOver: [],
});

/** Inputs, as each build has them. */
export const someInputs = fingerprintInputs(
  {
    source: dkmsSource,
    kernel: debianKernel,
    toolchain: digestOf('toolchain'),
    waived: [],
    dependencies: [],
    settings: {},
  },
  digestOf('script'),
);

/** An empty record. */
export const emptyRecord = async (label: string): Promise<Database> =>
  openDatabase(await recordIn(await freshDirectory(label)));

/** A handle on the record that counts the statements it sends: a cost that is the same on any machine. */
export const countStatements = (
  db: Database,
): { readonly counted: Database; statements(): number } => {
  let sent = 0;
  const counted = db.withPlugin({
    transformQuery({ node }) {
      sent += 1;
      return node;
    },
    transformResult: async ({ result }) => result,
  });
  return { counted, statements: () => sent };
};

/** Adds a kernel like Debian's, under another release. */
export const addKernel = async (db: Database, release: string): Promise<void> => {
  const kernel = { ...debianKernel, digest: digestOf(release), release };
  const { digest, arch } = kernel;
  await db
    .insertInto('kernels')
    .values({ ...stored, digest, release, arch, record: toJson(kernel) })
    .execute();
};

/** Adds an artifact of a build. */
export const addArtifact = async (
  db: Database,
  build: string,
  kind: ArtifactKind,
  digest: Digest,
): Promise<void> => {
  await db.insertInto('artifacts').values({ build, kind, name: '', key: '', digest }).execute();
};

/** Notes that a token asked for a build. */
export const addAsker = async (db: Database, build: string, token: string): Promise<void> => {
  const asker = { role: 'client', is_background: 0, asked_at: 1 } as const;
  await db
    .insertInto('askers')
    .values({ build, token, ...asker })
    .execute();
};

/** Adds and publishes a source that is built against others. */
export const addSource = async (
  db: Database,
  name: string,
  depends: readonly string[] = [],
): Promise<void> => {
  const { tree, version, kind, autoinstall, needs, settings, files } = dkmsSource;
  const digest = digestOf(name);
  const facts = toJson({ autoinstall, depends, needs, hasRust: false, settings, files });
  await db
    .insertInto('sources')
    .values({ ...stored, digest, tree, name, version, kind, facts, commit_id: null })
    .execute();
  await db
    .insertInto('source_names')
    .values({ name, version, source: digest, made_by: 'test', created_at: 1 })
    .execute();
};

/** Adds a build of the source `hello` for the kernel `release` with the toolchain `gcc`, which are there. */
export const addBuild = async (
  db: Database,
  given: { readonly id: string } & Partial<Schema['builds']>,
): Promise<void> => {
  await db
    .insertInto('builds')
    .values({
      fingerprint: digestOf(given.id),
      state: 'succeeded',
      attempt: 1,
      source: digestOf('hello'),
      kernel: digestOf('release'),
      toolchain: digestOf('gcc'),
      inputs: toJson(someInputs),
      asker: 'ci',
      made_by: 'test',
      is_tailored: 0,
      settings: toJson({}),
      created_at: 1,
      ...given,
    })
    .execute();
};

/** Adds a package that is made, of a toolchain that is called gcc. */
export const addPackage = async (
  db: Database,
  given: Partial<Schema['packages']> & Pick<Schema['packages'], 'digest' | 'finished_at'>,
): Promise<void> => {
  const subject = { kind: 'common' } as const;
  const id = given.id ?? 'package';
  await db
    .insertInto('packages')
    .values({
      id,
      fingerprint: digestOf(`fingerprint of ${id}`),
      format: 'deb',
      kind: 'common',
      name: 'common',
      version: id,
      file: `${id}.deb`,
      source: '',
      build: '',
      key: '',
      subject: toJson(subject),
      made_of: digestOf(`subject of ${id}`),
      plan: toJson(debPlan(subject)),
      toolchain: digestOf('gcc'),
      state: 'made',
      attempt: 0,
      builder: null,
      gone_digest: null,
      size: 1,
      problem: null,
      made_by: 'admin',
      created_at: 1,
      ...given,
    })
    .execute();
};

const CONTENTS: Omit<ToolchainContents, 'packages'> = {
  arch: 'x86_64',
  os: 'Debian GNU/Linux 12',
  libc: 'ldd (Debian GLIBC 2.36-9) 2.36',
  compilers: [{ path: '/usr/bin/gcc-12', version: debianKernel.compiler }],
  linker: { path: '/usr/bin/ld', version: 'GNU ld (GNU Binutils for Debian) 2.40' },
  lld: null,
  assembler: { path: '/usr/bin/as', version: 'GNU assembler (GNU Binutils for Debian) 2.40' },
  pahole: null,
  rustc: null,
  make: { path: '/usr/bin/make', version: 'GNU Make 4.3' },
};

/** Adds and pins a toolchain that is the kernels' own, with so many packages. */
export const addToolchain = async (db: Database, name: string, packages = 0): Promise<void> => {
  const contents: ToolchainContents = {
    ...CONTENTS,
    packages: Array.from({ length: packages }, (_, index) => ({
      name: `package-${index}`,
      version: '1:2.3.4-5+deb12u6',
      arch: 'amd64',
    })),
  };
  await db
    .insertInto('toolchains')
    .values({
      digest: digestOf(name),
      name,
      state: 'pinned',
      is_candidate: 0,
      contents: toJson(contents),
      problem: null,
      attempt: 0,
      builder: null,
      made_by: 'test',
      created_at: 1,
      pinned_at: 1,
      retired_at: null,
    })
    .execute();
};
