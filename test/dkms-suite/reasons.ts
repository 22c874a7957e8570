import type { Miss } from './adapt.ts';

/** Why checks of dkms's suite do not pass with Kiln's dkms: each names the misses that it is the reason of. */
const REASONS: readonly { readonly why: string; readonly holds: (miss: Miss) => boolean }[] = [
  {
    why: 'a test of the keys that dkms makes, or is given, on the host: Kiln’s service signs, with its own',
    holds: ({ group }) => group === 'Testing module signing',
  },
  {
    why: 'a source that makes no module: Kiln refuses to build nothing',
    holds: ({ title }) => title.includes('building zero kernel modules'),
  },
];

/** The reason of a miss, or `null`: then it is a defect. */
export const reasonOf = (miss: Miss): string | null =>
  REASONS.find(({ holds }) => holds(miss))?.why ?? null;
