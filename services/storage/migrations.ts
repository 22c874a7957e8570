import { PostgresAdapter, sql, type Kysely } from 'kysely';
import type { Migration } from 'kysely/migration';
import { fromJson, type JsonText } from './json-text.ts';

const FLEET = [
  `CREATE TABLE tokens (id TEXT PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL CHECK (role IN ('client', 'ci', 'admin')),
     hash TEXT NOT NULL UNIQUE, expires_at BIGINT NOT NULL, revoked_at BIGINT, created_at BIGINT NOT NULL)`,
  `CREATE TABLE sources (digest TEXT PRIMARY KEY, tree TEXT NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL, kind TEXT NOT NULL,
     claims TEXT NOT NULL, commit_id TEXT, blob TEXT NOT NULL, layout TEXT NOT NULL, trust TEXT NOT NULL, created_at BIGINT NOT NULL)`,
  `CREATE TABLE source_names (name TEXT NOT NULL, version TEXT NOT NULL, source TEXT NOT NULL REFERENCES sources (digest),
     created_at BIGINT NOT NULL, PRIMARY KEY (name, version))`,
  `CREATE TABLE kernels (digest TEXT PRIMARY KEY, release TEXT NOT NULL, arch TEXT NOT NULL, record TEXT NOT NULL,
     blob TEXT NOT NULL, layout TEXT NOT NULL, trust TEXT NOT NULL, created_at BIGINT NOT NULL)`,
  `CREATE INDEX kernels_by_release ON kernels (release)`,
  `CREATE TABLE toolchains (digest TEXT PRIMARY KEY, name TEXT NOT NULL, state TEXT NOT NULL,
     is_candidate INTEGER NOT NULL, contents TEXT, problem TEXT, created_at BIGINT NOT NULL, pinned_at BIGINT, retired_at BIGINT)`,
  `CREATE TABLE builds (id TEXT PRIMARY KEY, fingerprint TEXT NOT NULL UNIQUE,
     state TEXT NOT NULL, attempt INTEGER NOT NULL, source TEXT NOT NULL REFERENCES sources (digest), kernel TEXT NOT NULL REFERENCES kernels (digest),
     toolchain TEXT NOT NULL REFERENCES toolchains (digest), inputs TEXT NOT NULL, asker TEXT NOT NULL, is_tailored INTEGER NOT NULL, settings TEXT NOT NULL, recipe TEXT, exports TEXT, signature TEXT, failure TEXT,
     exclusion TEXT, log TEXT, attestation TEXT, timings TEXT, created_at BIGINT NOT NULL, started_at BIGINT, finished_at BIGINT)`,
  `CREATE INDEX builds_by_state ON builds (state)`,
  `CREATE TABLE modules (build TEXT NOT NULL REFERENCES builds (id), name TEXT NOT NULL, unsigned TEXT NOT NULL, signed TEXT,
     size BIGINT NOT NULL, modinfo TEXT NOT NULL, PRIMARY KEY (build, name))`,
  `CREATE INDEX modules_by_unsigned ON modules (unsigned)`,
  `CREATE INDEX modules_by_signed ON modules (signed)`,
  `CREATE TABLE archives (name TEXT PRIMARY KEY, sources TEXT NOT NULL, headers TEXT NOT NULL, created_at BIGINT NOT NULL)`,
  `CREATE TABLE archive_kernels (origin TEXT PRIMARY KEY, archive TEXT NOT NULL, release TEXT NOT NULL,
     kernel TEXT NOT NULL REFERENCES kernels (digest), created_at BIGINT NOT NULL)`,
  `CREATE TABLE rebuilds (id TEXT PRIMARY KEY, build TEXT NOT NULL REFERENCES builds (id), state TEXT NOT NULL, findings TEXT NOT NULL,
     created_at BIGINT NOT NULL, finished_at BIGINT)`,
  `CREATE TABLE dependencies (build TEXT NOT NULL REFERENCES builds (id), needs TEXT NOT NULL REFERENCES builds (id), PRIMARY KEY (build, needs))`,
  `CREATE INDEX dependencies_by_needs ON dependencies (needs)`,
  `CREATE TABLE requests (id TEXT PRIMARY KEY, build TEXT NOT NULL REFERENCES builds (id), token TEXT NOT NULL, created_at BIGINT NOT NULL)`,
  `CREATE INDEX requests_by_build ON requests (build)`,
  `CREATE TABLE signers (key TEXT PRIMARY KEY, certificate TEXT NOT NULL, seen_at BIGINT NOT NULL)`,
  `CREATE TABLE misses (reason TEXT NOT NULL, source TEXT NOT NULL, release TEXT NOT NULL, count BIGINT NOT NULL, last_at BIGINT NOT NULL,
     PRIMARY KEY (reason, source, release))`,
  `CREATE INDEX misses_by_last ON misses (last_at)`,
];

const UPLOADS = [
  `CREATE TABLE uploads (blob TEXT PRIMARY KEY, claims INTEGER NOT NULL, claimed_at BIGINT NOT NULL)`,
  `CREATE INDEX uploads_by_time ON uploads (claimed_at)`,
];

const QUOTAS = [
  `ALTER TABLE tokens ADD COLUMN quotas TEXT NOT NULL DEFAULT '{}'`,
  `CREATE TABLE sent (token TEXT NOT NULL, day BIGINT NOT NULL, bytes BIGINT NOT NULL, PRIMARY KEY (token, day))`,
  `CREATE INDEX requests_by_token ON requests (token)`,
];

const BUILDERS = [
  `ALTER TABLE builds ADD COLUMN builder TEXT`,
  `ALTER TABLE rebuilds ADD COLUMN builder TEXT`,
  `ALTER TABLE toolchains ADD COLUMN builder TEXT`,
  `ALTER TABLE toolchains ADD COLUMN attempt INTEGER NOT NULL DEFAULT 0`,
];

/** Names that belong to tokens, who made what, and what is withdrawn. */
const OWNERS = [
  ...['sources', 'source_names', 'kernels', 'toolchains', 'builds', 'archives', 'tokens'].map(
    (table) => `ALTER TABLE ${table} ADD COLUMN made_by TEXT NOT NULL DEFAULT ''`,
  ),
  `ALTER TABLE tokens ADD COLUMN names TEXT NOT NULL DEFAULT '[]'`,
  `CREATE TABLE source_owners (name TEXT PRIMARY KEY, token TEXT NOT NULL REFERENCES tokens (id))`,
  `CREATE TABLE withdrawals (kind TEXT NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL, reason TEXT NOT NULL, made_by TEXT NOT NULL,
     created_at BIGINT NOT NULL, PRIMARY KEY (kind, id))`,
];

const ASKERS = [
  `CREATE TABLE askers (build TEXT NOT NULL REFERENCES builds (id), token TEXT NOT NULL, role TEXT NOT NULL, is_background INTEGER NOT NULL,
     asked_at BIGINT NOT NULL, PRIMARY KEY (build, token))`,
  `CREATE INDEX askers_by_token ON askers (token, asked_at)`,
];

const PUSHERS = [
  `CREATE TABLE pushers (tree TEXT NOT NULL, token TEXT NOT NULL, PRIMARY KEY (tree, token))`,
];

const TOOLCHAIN_PACKAGES = [
  `ALTER TABLE toolchains ADD COLUMN description TEXT`,
  `CREATE TABLE toolchain_packages (toolchain TEXT NOT NULL REFERENCES toolchains (digest), name TEXT NOT NULL, version TEXT NOT NULL,
     blob TEXT NOT NULL, PRIMARY KEY (toolchain, name))`,
  `CREATE INDEX toolchain_packages_by_blob ON toolchain_packages (blob)`,
];

const ARTIFACTS = [
  `CREATE TABLE artifacts (build TEXT NOT NULL REFERENCES builds (id), kind TEXT NOT NULL, name TEXT NOT NULL, key TEXT NOT NULL,
     digest TEXT NOT NULL, PRIMARY KEY (build, kind, name, key))`,
  `CREATE INDEX artifacts_by_digest ON artifacts (digest)`,
  `CREATE TABLE signatures (build TEXT NOT NULL REFERENCES builds (id), key TEXT NOT NULL, hash TEXT NOT NULL, created_at BIGINT NOT NULL,
     PRIMARY KEY (build, key))`,
  `ALTER TABLE builds ADD COLUMN unsigned_because TEXT`,
];

/** Artifacts by build, from where they were; those with a signature go by its key. */
const CARRY_ARTIFACTS = [
  ...['log', 'exports'].map(
    (kind) =>
      `INSERT INTO artifacts (build, kind, name, key, digest) SELECT id, '${kind}', '', '', ${kind} FROM builds WHERE ${kind} IS NOT NULL`,
  ),
  `INSERT INTO artifacts (build, kind, name, key, digest) SELECT build, 'unsigned', name, '', unsigned FROM modules`,
  `INSERT INTO artifacts (build, kind, name, key, digest) SELECT modules.build, 'signed', modules.name, signatures.key, modules.signed
     FROM modules JOIN signatures ON signatures.build = modules.build WHERE modules.signed IS NOT NULL`,
  `INSERT INTO artifacts (build, kind, name, key, digest) SELECT builds.id, 'attestation', '', signatures.key, builds.attestation
     FROM builds JOIN signatures ON signatures.build = builds.id WHERE builds.attestation IS NOT NULL`,
  `DROP INDEX modules_by_unsigned`,
  `DROP INDEX modules_by_signed`,
  ...['unsigned', 'signed'].map((column) => `ALTER TABLE modules DROP COLUMN ${column}`),
  ...['log', 'exports', 'attestation', 'signature'].map(
    (column) => `ALTER TABLE builds DROP COLUMN ${column}`,
  ),
];

/** The signature that a build's row had as JSON. */
interface SignedBuilds {
  builds: {
    id: string;
    signature: JsonText<
      { kind: 'signed'; key: string; hash: string } | { kind: 'unsigned'; reason: string }
    > | null;
    unsigned_because: string | null;
    created_at: number;
    finished_at: number | null;
  };
  signatures: { build: string; key: string; hash: string; created_at: number };
}

const carrySignatures = async (db: Kysely<SignedBuilds>): Promise<void> => {
  const builds = await db
    .selectFrom('builds')
    .select(['id', 'signature', 'created_at', 'finished_at'])
    .execute();
  for (const { id, signature, created_at, finished_at } of builds) {
    const made = signature === null ? null : fromJson(signature);
    if (made?.kind === 'signed')
      await db
        .insertInto('signatures')
        .values({
          build: id,
          key: made.key,
          hash: made.hash,
          created_at: finished_at ?? created_at,
        })
        .execute();
    if (made?.kind === 'unsigned')
      await db
        .updateTable('builds')
        .set({ unsigned_because: made.reason })
        .where('id', '=', id)
        .execute();
  }
};

/** Claims on uploads are tokens’ own. Those that there were, end. */
const CLAIMS = [
  `DROP TABLE uploads`,
  `CREATE TABLE uploads (blob TEXT NOT NULL, token TEXT NOT NULL, claims INTEGER NOT NULL, claimed_at BIGINT NOT NULL,
     PRIMARY KEY (blob, token))`,
  `CREATE INDEX uploads_by_time ON uploads (claimed_at)`,
];

/** Archives bring modules' sources, too, and own names as tokens do. */
const ARCHIVE_SOURCES = [
  `ALTER TABLE archives ADD COLUMN modules TEXT`,
  `ALTER TABLE archives ADD COLUMN builds_ahead INTEGER NOT NULL DEFAULT 0`,
  `CREATE TABLE archive_packages (digest TEXT PRIMARY KEY, archive TEXT NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL,
     created_at BIGINT NOT NULL)`,
  `CREATE TABLE archive_sources (package TEXT NOT NULL REFERENCES archive_packages (digest),
     source TEXT NOT NULL REFERENCES sources (digest), PRIMARY KEY (package, source))`,
  `CREATE INDEX archive_sources_by_source ON archive_sources (source)`,
  `CREATE INDEX sources_by_tree ON sources (tree)`,
  `CREATE TABLE owners (name TEXT PRIMARY KEY, owner TEXT NOT NULL)`,
  `INSERT INTO owners (name, owner) SELECT name, token FROM source_owners`,
  `DROP TABLE source_owners`,
  `ALTER TABLE owners RENAME TO source_owners`,
];

/** Archives of RPMs, and the newest metadata that was seen of each. */
const RPM_ARCHIVES = [
  `ALTER TABLE archives ADD COLUMN kind TEXT NOT NULL DEFAULT 'apt'`,
  `ALTER TABLE archives ADD COLUMN newest BIGINT`,
];

/** Sources may bring files for hosts; those that there were, bring none. */
const HOST_FILES = [`UPDATE sources SET facts = '{"files":{},' || substr(facts, 2)`];

const PACKAGES = [
  `CREATE TABLE packages (id TEXT PRIMARY KEY, fingerprint TEXT NOT NULL UNIQUE, format TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL,
     version TEXT NOT NULL, file TEXT NOT NULL, source TEXT NOT NULL, build TEXT NOT NULL, key TEXT NOT NULL, subject TEXT NOT NULL,
     made_of TEXT NOT NULL, plan TEXT NOT NULL, toolchain TEXT NOT NULL REFERENCES toolchains (digest), state TEXT NOT NULL,
     attempt INTEGER NOT NULL, builder TEXT, digest TEXT, size BIGINT, problem TEXT, made_by TEXT NOT NULL, created_at BIGINT NOT NULL,
     finished_at BIGINT, UNIQUE (format, name, version), UNIQUE (format, made_of))`,
  `CREATE INDEX packages_by_build ON packages (build)`,
  `CREATE INDEX packages_by_state ON packages (state)`,
  `CREATE INDEX packages_by_file ON packages (format, file)`,
];

const REPOSITORIES = [
  `CREATE TABLE publications (source TEXT PRIMARY KEY, formats TEXT NOT NULL, channel TEXT NOT NULL, is_held INTEGER NOT NULL,
     problem TEXT, made_by TEXT NOT NULL, created_at BIGINT NOT NULL)`,
  `CREATE TABLE channel_packages (format TEXT NOT NULL, suite TEXT NOT NULL, channel TEXT NOT NULL,
     package TEXT NOT NULL REFERENCES packages (id), since BIGINT NOT NULL, PRIMARY KEY (format, suite, channel, package))`,
  `CREATE INDEX channel_packages_by_package ON channel_packages (package)`,
  `CREATE TABLE repositories (format TEXT NOT NULL, suite TEXT NOT NULL, channel TEXT NOT NULL, generation BIGINT NOT NULL, current BIGINT,
     content TEXT NOT NULL, made_at BIGINT NOT NULL, valid_until BIGINT NOT NULL, served_made_at BIGINT,
     served_until BIGINT, problem TEXT, PRIMARY KEY (format, suite, channel))`,
  `CREATE TABLE index_files (format TEXT NOT NULL, suite TEXT NOT NULL, channel TEXT NOT NULL, generation BIGINT NOT NULL, path TEXT NOT NULL,
     digest TEXT NOT NULL, size BIGINT NOT NULL, PRIMARY KEY (format, suite, channel, generation, path))`,
  `CREATE INDEX index_files_by_digest ON index_files (digest)`,
];

type Step = readonly string[] | ((db: Kysely<SignedBuilds>) => Promise<void>);

/** A statement as the database takes it: SQLite compares texts by their bytes, and PostgreSQL as its administrator likes where it is not told. */
const inDialectOf = (db: Kysely<SignedBuilds>, statement: string): string =>
  db.getExecutor().adapter instanceof PostgresAdapter
    ? statement.replaceAll(/\bTEXT\b/g, 'TEXT COLLATE "C"')
    : statement;

const inOrder = (...steps: readonly Step[]): Migration => ({
  async up(db: Kysely<SignedBuilds>) {
    for (const step of steps) {
      if (typeof step === 'function') await step(db);
      else for (const statement of step) await sql.raw(inDialectOf(db, statement)).execute(db);
    }
  },
});

/** The schema's history, oldest first. */
export const MIGRATIONS: Readonly<Record<string, Migration>> = {
  '001-fleet': inOrder(FLEET),
  '002-uploads': inOrder(UPLOADS),
  '003-quotas': inOrder(QUOTAS),
  '004-builders': inOrder(BUILDERS),
  '005-owners': inOrder(OWNERS),
  '006-askers': inOrder(ASKERS),
  '007-pushers': inOrder(PUSHERS),
  '008-toolchain-packages': inOrder(TOOLCHAIN_PACKAGES),
  '009-artifacts': inOrder(ARTIFACTS, carrySignatures, CARRY_ARTIFACTS),
  '010-facts': inOrder([`ALTER TABLE sources RENAME COLUMN claims TO facts`]),
  '011-claims': inOrder(CLAIMS),
  '012-archive-sources': inOrder(ARCHIVE_SOURCES),
  '013-rpm-archives': inOrder(RPM_ARCHIVES),
  '014-host-files': inOrder(HOST_FILES),
  '015-packages': inOrder(PACKAGES),
  '016-repositories': inOrder(REPOSITORIES),
  '017-gone-packages': inOrder([`ALTER TABLE packages ADD COLUMN gone_digest TEXT`]),
  '018-syncs': inOrder([
    `CREATE TABLE syncs (name TEXT PRIMARY KEY, view TEXT NOT NULL, said_at BIGINT NOT NULL)`,
  ]),
};
