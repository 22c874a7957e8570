import { licensesOf } from './contents.ts';
import type { PackageSubject } from './subject.ts';

/** What modules say of their license, as SPDX has it (source: include/linux/module.h, `MODULE_LICENSE`). */
const SPDX: Readonly<Record<string, string>> = {
  GPL: 'GPL-2.0-only',
  'GPL v2': 'GPL-2.0-only',
  'GPL and additional rights': 'GPL-2.0-only',
  'Dual BSD/GPL': 'GPL-2.0-only OR BSD-3-Clause',
  'Dual MIT/GPL': 'GPL-2.0-only OR MIT',
  'Dual MPL/GPL': 'GPL-2.0-only OR MPL-1.1',
  CDDL: 'CDDL-1.0',
};

const LICENSE_LIMIT = 1000;

/** The license that an RPM package names, as SPDX has it where it has one. */
export const licenseOf = (subject: PackageSubject): string => {
  if (subject.kind === 'common' || subject.kind === 'flavour') return 'Apache-2.0';
  const all = licensesOf(subject).map(
    (license) => SPDX[license] ?? `LicenseRef-${license.replaceAll(/[^A-Za-z0-9.-]+/g, '-')}`,
  );
  const joined = all
    .map((each) => (all.length > 1 && each.includes(' ') ? `(${each})` : each))
    .join(' AND ');
  return joined.length > LICENSE_LIMIT ? 'LicenseRef-several' : joined;
};
