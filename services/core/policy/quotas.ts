import type { Role } from './policy.ts';

/** What one token may have of the service, so that none takes it from the others. */
export interface Quotas {
  /** Builds that wait or run for it at once. */
  readonly builds: number;
  /** Uploads at once. */
  readonly uploads: number;
  /** Builds that it follows at once. */
  readonly followers: number;
  /** Bytes that it may send in a day (UTC). */
  readonly dailyBytes: number;
}

/** The quotas that a token was made with. */
export type OwnQuotas = { readonly [Name in keyof Quotas]?: number | undefined };

const GiB = 1024 ** 3;

/** What tokens of a role may have, unless they were made with numbers of their own. */
const DEFAULTS: Readonly<Record<Role, Quotas>> = {
  client: { builds: 64, uploads: 4, followers: 64, dailyBytes: 8 * GiB },
  ci: { builds: 2_000, uploads: 16, followers: 1_000, dailyBytes: 200 * GiB },
  admin: { builds: 20_000, uploads: 64, followers: 1_000, dailyBytes: 1000 * GiB },
};

/** A token's quotas: its own numbers, and its role's for the rest. */
export const quotasOf = (role: Role, own: OwnQuotas): Quotas => {
  const usual = DEFAULTS[role];
  return {
    builds: own.builds ?? usual.builds,
    uploads: own.uploads ?? usual.uploads,
    followers: own.followers ?? usual.followers,
    dailyBytes: own.dailyBytes ?? usual.dailyBytes,
  };
};

const DAY = 24 * 3600 * 1000;

/** The day of a time, counted from 1970, and how many seconds are left of it. */
export const dayOf = (time: number): { readonly day: number; readonly left: number } => {
  const day = Math.floor(time / DAY);
  return { day, left: Math.ceil(((day + 1) * DAY - time) / 1000) };
};
