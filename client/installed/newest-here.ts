import { z } from 'zod';
import type { Digest } from '../../services/core/digest.ts';
import { compareSources, type Versioned } from '../../services/core/source/source-version.ts';
import type { Receipt } from './receipts.ts';

const Inputs = z.object({ source: z.object({ tree: z.custom<Digest>() }) });

/** A source's version and tree, from a build's inputs. */
export const versionIn = (version: string, inputs: Receipt['inputs']): Versioned => ({
  version,
  tree: Inputs.safeParse(inputs).data?.source.tree ?? ('' as Digest),
});

/** The newest receipt of a source on any kernel of the host, if it is newer than what is offered; else `null`. */
export const newerHere = (
  receipts: readonly Receipt[],
  name: string,
  offered: Versioned,
): Receipt | null =>
  receipts
    .filter(
      (each) =>
        each.name === name && compareSources(versionIn(each.version, each.inputs), offered) > 0,
    )
    .toSorted((one, other) =>
      compareSources(versionIn(other.version, other.inputs), versionIn(one.version, one.inputs)),
    )[0] ?? null;
