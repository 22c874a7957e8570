import { describe, expect, it } from '@jest/globals';
import { BLOB_COLUMNS, BLOB_TEXTS } from '../../services/api/record/named-blobs.ts';
import { emptyRecord } from '../machine/small-record.ts';

/** Columns of text that name no blob which a record keeps. */
const OTHERS: Readonly<Record<string, string>> = {
  archive_kernels: 'origin archive release kernel',
  // The package itself is its sources’ blob.
  archive_packages: 'digest archive name version',
  archive_sources: 'package source',
  artifacts: 'build kind name key',
  archives: 'name kind sources headers modules made_by',
  askers: 'build token role',
  builds:
    'id fingerprint state builder source kernel toolchain inputs asker made_by settings recipe unsigned_because failure exclusion timings',
  channel_packages: 'format suite channel package',
  dependencies: 'build needs',
  index_files: 'format suite channel path',
  kernels: 'digest release arch layout trust made_by',
  misses: 'reason source release',
  modules: 'build name modinfo',
  // What its plan has besides is in the subject as well. The digest of bytes that went is to be compared alone.
  packages:
    'id fingerprint format kind name version file source build key subject made_of toolchain state builder gone_digest problem made_by',
  publications: 'source formats channel problem made_by',
  pushers: 'tree token',
  rebuilds: 'id build builder state findings',
  repositories: 'format suite channel content problem',
  requests: 'id build token',
  sent: 'token',
  signatures: 'build key hash',
  signers: 'key certificate',
  source_names: 'name version source made_by',
  source_owners: 'name owner',
  sources: 'digest tree name version kind commit_id layout trust made_by',
  tokens: 'id name role hash names made_by quotas',
  // The digests in it are those of trees.
  syncs: 'name view',
  toolchain_packages: 'toolchain name version',
  toolchains: 'name state contents problem builder made_by description',
  // A claim on it, which ends.
  uploads: 'blob token',
  withdrawals: 'kind id name reason made_by',
};

describe('the record', () => {
  it('has no column of which nobody has said whether it names blobs: a blob that only such a one names would be collected', async () => {
    const db = await emptyRecord('named-blobs');
    const tables = await db.introspection.getTables();
    const inSchema = tables.flatMap(({ name, columns }) =>
      columns
        .filter(({ dataType }) => dataType.toUpperCase() === 'TEXT')
        .map((column) => `${name}.${column.name}`),
    );
    await db.destroy();
    const said = [
      ...[...BLOB_COLUMNS, ...BLOB_TEXTS].map((column) => column.join('.')),
      ...Object.entries(OTHERS).flatMap(([table, columns]) =>
        columns.split(' ').map((column) => `${table}.${column}`),
      ),
    ];
    expect(inSchema.sort()).toEqual(said.sort());
  });
});
