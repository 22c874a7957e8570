import { KilnError } from '../../core/errors.ts';
import { headerPackage } from '../../core/kernel/header-packages.ts';
import { trustReaches } from '../../core/policy/policy.ts';
import { findWithdrawn } from '../../core/policy/withdrawal.ts';
import type { CreateBuild } from '../../core/protocol/build.ts';
import type { HostKernel } from '../../core/protocol/kernel.ts';
import type { Database } from '../../storage/database.ts';
import { mayReadTree, readableKernels, type Reader } from './readers.ts';
import { kernelOf, type StoredKernel } from './records.ts';
import { mustNotBeWithdrawn, readWithdrawals } from './withdrawn.ts';

/** The refusal of a request that names a kernel by a host's facts, where none that is here has them. */
export class KernelMissing extends KilnError {
  readonly release: string;

  constructor(message: string, release: string) {
    super('not-found', message);
    this.release = release;
  }
}

/** The kernel that a request means. Throws `not-found` (`KernelMissing`), saying what is here and how to supply it, or `withdrawn`. */
export const findKernelOf = async (
  db: Database,
  reader: Reader,
  wanted: CreateBuild['kernel'],
): Promise<StoredKernel> => {
  const withdrawals = await readWithdrawals(db);
  if ('digest' in wanted) {
    const row = await db
      .selectFrom('kernels')
      .selectAll()
      .where('digest', '=', wanted.digest)
      .executeTakeFirst();
    const found = row === undefined ? null : kernelOf(row);
    if (found === null || !(await mayReadTree(db, reader, found)))
      throw new KilnError(
        'not-found',
        `there is no kernel ${wanted.digest}; push its headers first`,
      );
    mustNotBeWithdrawn(withdrawals, [['kernel', found.digest]], OTHER_KERNEL);
    return found;
  }
  const all = await readableKernels(db, reader)
    .where('release', '=', wanted.release)
    .orderBy('created_at', 'desc')
    .execute();
  const rows = all.filter(
    ({ digest: id }) => findWithdrawn(withdrawals, [['kernel', id]]) === null,
  );
  const found = chooseKernel(rows.map(kernelOf), wanted);
  if (found !== undefined) return found;
  const gone = all.find(
    (row) => !rows.includes(row) && misfits(kernelOf(row), wanted).length === 0,
  );
  if (gone !== undefined) mustNotBeWithdrawn(withdrawals, [['kernel', gone.digest]], OTHER_KERNEL);
  const there = rows.map(kernelOf).map((kernel) => {
    const { build, arch } = kernel;
    return `${arch} "${build ?? 'no build string'}" (${misfits(kernel, wanted).join(', ')})`;
  });
  const named = headerPackage(wanted.release, wanted.distribution ?? '');
  const inPackage = named === null ? '' : `; they come with ${named}`;
  throw new KernelMissing(
    there.length === 0
      ? `no headers of kernel ${wanted.release} are here; send them from a host that has them, or as packages or a directory (kiln kernel push${inPackage})`
      : `kernel ${wanted.release} is here as ${there.join(', ')}, and none of them is this one${wanted.build === undefined ? '' : ` ("${wanted.build}")`}; send its headers with kiln kernel push`,
    wanted.release,
  );
};

const OTHER_KERNEL = 'send other headers of it, or have an admin take that back';

/**
 * The one kernel with a host's facts. Kernels that somebody vouches for are preferred to those that clients pushed, and newer headers to
 * older ones of the same kernel.
 */
const chooseKernel = (
  kernels: readonly StoredKernel[],
  facts: HostKernel,
): StoredKernel | undefined => {
  const fitting = kernels.filter((kernel) => misfits(kernel, facts).length === 0);
  return fitting.find(({ trust }) => trustReaches(trust, 'archive')) ?? fitting[0];
};

/** The facts in which a kernel differs from a host's; none where it is the host's own. */
const misfits = ({ build, options, arch }: StoredKernel, facts: HostKernel): readonly string[] => [
  ...(facts.arch === undefined || arch === facts.arch ? [] : ['another CPU']),
  ...(facts.build === undefined || build === null || build === facts.build
    ? []
    : ['another build']),
  ...(facts.options === undefined || options === facts.options ? [] : ['another configuration']),
];
