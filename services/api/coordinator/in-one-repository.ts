import { isSameJson } from '../../core/format/canonical-json.ts';
import { madeOfDigest } from '../../core/packages/plan-package.ts';
import type { ModulesSubject, PackageSubject } from '../../core/packages/subject.ts';
import { findWithdrawn } from '../../core/policy/withdrawal.ts';
import type { Database } from '../../storage/database.ts';
import { fromJson } from '../../storage/json-text.ts';
import type { PackageRow } from '../record/packages.ts';
import { madeOfRow, readWithdrawals } from '../record/withdrawn.ts';

/** Which packages can be in one repository. */

/** Those that the signer would let into an index now: of this Kiln's layout, signed with the key, of nothing that was withdrawn. */
export const usable = async (
  db: Database,
  rows: readonly PackageRow[],
  key: string,
): Promise<readonly PackageRow[]> => {
  const ids = [...new Set(rows.map(({ build }) => build))].filter((build) => build !== '');
  const builds =
    ids.length === 0
      ? []
      : await db
          .selectFrom('builds')
          .select(['id', 'inputs', 'fingerprint'])
          .where('id', 'in', ids)
          .execute();
  const withdrawals = await readWithdrawals(db);
  const given = new Set(
    builds
      .filter((build) => findWithdrawn(withdrawals, madeOfRow(build, key)) === null)
      .map(({ id }) => id),
  );
  return rows.filter(
    (row) =>
      row.state === 'made' &&
      madeOfDigest(fromJson(row.subject)) === row.made_of &&
      (row.build === '' || (row.key === key && given.has(row.build))),
  );
};

/** What of some packages goes together: settings, and what follows a flavour, only beside the modules that they belong to. */
export const together = (rows: readonly PackageRow[]): readonly PackageRow[] => {
  const modules = modulesIn(rows);
  return rows.filter((row) => {
    const subject = fromJson(row.subject);
    return modules.some((each) => belongs(subject, each));
  });
};

const belongs = (subject: PackageSubject, modules: ModulesSubject): boolean => {
  switch (subject.kind) {
    case 'modules':
    case 'common':
      return true;
    case 'settings':
      return isSameJson(subject.source, modules.source) && isSameJson(subject.files, modules.files);
    case 'flavour':
      return (
        isSameJson(subject.source, modules.source) &&
        subject.kernel.release === modules.kernel.release
      );
  }
};

/** The packages with all those of `others` that they need. */
export const withNeeded = (
  rows: readonly PackageRow[],
  others: readonly PackageRow[],
): readonly PackageRow[] => {
  const found = new Map(rows.map((row) => [row.id, row]));
  for (let before = -1; before !== found.size;) {
    before = found.size;
    const modules = modulesIn([...found.values()]);
    for (const row of others)
      if (modules.some((each) => needs(each, fromJson(row.subject)))) found.set(row.id, row);
  }
  return [...found.values()];
};

const needs = (modules: ModulesSubject, subject: PackageSubject): boolean => {
  if (subject.kind !== 'modules') return subject.kind !== 'flavour' && belongs(subject, modules);
  const { source, kernel } = subject;
  return modules.needs.includes(source.name) && modules.kernel.release === kernel.release;
};

const modulesIn = (rows: readonly PackageRow[]): readonly ModulesSubject[] =>
  rows.flatMap(({ subject }) => {
    const parsed = fromJson(subject);
    return parsed.kind === 'modules' ? [parsed] : [];
  });
