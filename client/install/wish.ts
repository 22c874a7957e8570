import type { X509Certificate } from 'node:crypto';
import type { KilnError } from '../../services/core/errors.ts';
import type { CreateBuild } from '../../services/core/protocol/build.ts';
import type { Receipt } from '../installed/receipts.ts';
import type { Planner } from './plan.ts';
import type { Supply } from './supply.ts';
import type { Wanted } from '../installed/wanted.ts';

/** One source for one kernel. */
export interface Wish {
  /** The source's name, for messages and the list of what is wanted; `null` where it is known only after the build. */
  readonly name: string | null;
  readonly release: string;
  readonly request: CreateBuild;
  /** Whether a person has allowed an older version than the host has. */
  readonly mayGoDown: boolean;
  /** Plans its installation, where that is not as `kiln install` lays modules down. */
  readonly plan?: Planner;
  /** Where its build comes from, if not from where the others' do. */
  readonly supply?: Supply;
}

/** Options of an installation, the same for all wishes of a run. */
export interface InstallTerms {
  readonly supply: Supply;
  readonly certificate: X509Certificate | null;
  readonly allowUnsigned: boolean;
  /** Install even where the kernel's own module is the same or newer. */
  readonly force: boolean;
  /** Forget withdrawals that the service, or the bundle, no longer lists. */
  readonly forgetWithdrawals: boolean;
  /** Whether modules of the same names that are moved aside come back when these are removed. */
  readonly keepDisplaced: boolean;
  /** Link modules of another kernel of this host where they are proven to fit. */
  readonly weakUpdates: boolean;
  /** Sources that every kernel shall have from now on. */
  readonly wanted: Wanted;
  /** Whether initramfs images may be made anew. */
  readonly initramfs: boolean;
}

/** How one wish ended. */
export interface Granted {
  readonly name: string;
  readonly release: string;
  /** What stands now; `null` where it failed. */
  readonly receipt: Receipt | null;
  /** Whether it was granted without compiling anything. */
  readonly isCached: boolean;
  readonly problem: KilnError | null;
}
