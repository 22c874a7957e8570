import { KilnError } from '../core/errors.ts';
import type { PackagePlan } from '../core/packages/plan.ts';
import { checkDeb } from './check-deb.ts';
import { checkRpm } from './check-rpm.ts';
import { composePackage, type ReadBlob } from './compose-package.ts';

/**
 * Checks that a package is what its plan says, and nothing else. `most` bounds what may come out of it; `read` reads what the plan names.
 * Throws `KilnError('unverified')`.
 */
export const checkPackage = (
  bytes: Buffer,
  plan: PackagePlan,
  most: number,
  read: ReadBlob,
): Promise<void> => {
  switch (plan.format) {
    case 'deb':
      return checkDeb(bytes, plan, most);
    case 'rpm':
    case 'kmp':
      return checkRpm(bytes, plan, most);
    case 'sysext':
    case 'oci':
      return checkComposed(bytes, plan, read);
  }
};

const checkComposed = async (bytes: Buffer, plan: PackagePlan, read: ReadBlob): Promise<void> => {
  if (!bytes.equals(await composePackage(plan, read)))
    throw new KilnError('unverified', `${plan.file} has other bytes than planned`);
};
