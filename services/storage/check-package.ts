import type { PackagePlan } from '../core/packages/plan.ts';
import { checkDeb } from './check-deb.ts';
import { checkRpm } from './check-rpm.ts';

/** Checks that a package is what its plan says, and nothing else. `most` bounds what may come out of it. Throws `KilnError('unverified')`. */
export const checkPackage = (bytes: Buffer, plan: PackagePlan, most: number): Promise<void> => {
  switch (plan.format) {
    case 'deb':
      return checkDeb(bytes, plan, most);
    case 'rpm':
    case 'kmp':
      return checkRpm(bytes, plan, most);
  }
};
