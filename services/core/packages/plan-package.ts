import { canonicalJson } from '../format/canonical-json.ts';
import { digestOf, type Digest } from '../digest.ts';
import { debPlan } from './deb-plan.ts';
import type { PackageFormat, PackagePlan } from './plan.ts';
import type { PackageSubject } from './subject.ts';

/** What is in the package of a subject. */
export const planPackage = (format: PackageFormat, subject: PackageSubject): PackagePlan => {
  switch (format) {
    case 'deb':
      return debPlan(subject);
  }
};

/** The digest of a subject but for its revision: what a package is made of. */
export const madeOfDigest = (subject: PackageSubject): Digest => {
  const parts = 'revision' in subject ? { ...subject, revision: 0 } : subject;
  return digestOf(canonicalJson(parts));
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
