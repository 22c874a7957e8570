import { canonicalJson } from '../format/canonical-json.ts';
import { digestOf, type Digest } from '../digest.ts';
import { debPlan } from './deb-plan.ts';
import { COMMON_VERSION } from './names.ts';
import { kmpPlan } from './kmp-plan.ts';
import { ociPlan } from './oci-plan.ts';
import { rpmPlan } from './rpm-plan.ts';
import type { PackageFormat, PackagePlan } from './plan.ts';
import type { PackageSubject } from './subject.ts';
import { sysextPlan } from './sysext-plan.ts';

/** What is in the package of a subject. Throws `KilnError('conflict')` where no package of the format can be made of it. */
export const planPackage = (format: PackageFormat, subject: PackageSubject): PackagePlan => {
  switch (format) {
    case 'deb':
      return debPlan(subject);
    case 'rpm':
      return rpmPlan(subject);
    case 'kmp':
      return kmpPlan(subject);
    case 'sysext':
      return sysextPlan(subject);
    case 'oci':
      return ociPlan(subject);
  }
};

/**
 * Raised with every change of what plans say of the same subject: packages of another layout are made anew, and are in no repository, as the
 * signer could not tell any more what is to be in them.
 */
const LAYOUT = 1;

/** The digest of a subject but for its revision: what a package is made of. */
export const madeOfDigest = (subject: PackageSubject): Digest => {
  const parts = 'revision' in subject ? { ...subject, revision: 0 } : subject;
  return digestOf(canonicalJson({ layout: LAYOUT, common: COMMON_VERSION, ...parts }));
};

/** Bytes that a package of this subject may unpack to: its files, and some room for what is said of them. */
export const unpackedLimit = (subject: PackageSubject): number => {
  const files = [
    ...('files' in subject ? subject.files : []),
    ...('modules' in subject ? subject.modules : []),
  ];
  const attestation = 'attestation' in subject ? subject.attestation.size : 0;
  return files.reduce((sum, { size }) => sum + size + 4096, attestation) + 16 * 1024 ** 2;
};
