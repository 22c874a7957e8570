import type { SourcesQuery } from '../../core/protocol/source.ts';
import type { Database } from '../../storage/database.ts';
import { readPage, type Page } from './pages.ts';
import { readableSources, type Reader } from './readers.ts';
import { sourceOf, type StoredSource } from './records.ts';

/** Sources by name, or those with a tree: then also such as have no name here, the latest first. */
export const listSources = async (
  db: Database,
  reader: Reader,
  wanted: SourcesQuery,
): Promise<Page<StoredSource>> => {
  const { items, next } =
    wanted.tree === undefined
      ? await listNamed(db, wanted)
      : await listAlike(db, reader, { ...wanted, tree: wanted.tree });
  return { items: items.map(sourceOf), next };
};

const listNamed = (db: Database, { name, version, ...wanted }: SourcesQuery) => {
  let found = db
    .selectFrom('source_names')
    .innerJoin('sources', 'sources.digest', 'source_names.source')
    .selectAll('sources');
  if (name !== undefined) found = found.where('source_names.name', '=', name);
  if (version !== undefined) found = found.where('source_names.version', '=', version);
  const order = { table: 'source_names', columns: ['name', 'version'], direction: 'asc' } as const;
  return readPage(found, order, wanted);
};

const listAlike = (
  db: Database,
  reader: Reader,
  { name, version, tree, ...wanted }: SourcesQuery & { readonly tree: string },
) => {
  let found = readableSources(db, reader).where('tree', '=', tree);
  if (name !== undefined) found = found.where('name', '=', name);
  if (version !== undefined) found = found.where('version', '=', version);
  const order = { table: 'sources', columns: ['created_at', 'digest'], direction: 'desc' } as const;
  return readPage(found, order, wanted);
};
