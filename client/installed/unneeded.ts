import { z } from 'zod';
import type { Receipt } from './receipts.ts';
import type { Wanted } from './wanted.ts';

const Inputs = z.object({ dependencies: z.array(z.object({ name: z.string() })) });

/** The names of the sources that a module set was built against: it needs their modules to load. */
const neededBy = ({ inputs }: Receipt): readonly string[] =>
  Inputs.safeParse(inputs).data?.dependencies.map(({ name }) => name) ?? [];

/** The receipts to remove, together with those that were installed for them alone: not wanted by name, not added to dkms, and needed by none that stays. */
export const withUnneeded = (
  going: readonly Receipt[],
  receipts: readonly Receipt[],
  wanted: Wanted,
): readonly Receipt[] => {
  const gone = new Set(going);
  const isNeeded = ({ name, release }: Receipt): boolean =>
    receipts.some(
      (each) => !gone.has(each) && each.release === release && neededBy(each).includes(name),
    );
  // The set grows while the loop runs: removing one receipt may make those unneeded that it was built against.
  for (const receipt of gone)
    for (const name of neededBy(receipt)) {
      const found = receipts.find((each) => each.release === receipt.release && each.name === name);
      if (found === undefined || found.dkmsTree !== null) continue;
      if (wanted.some((each) => each.name === name)) continue;
      if (!isNeeded(found)) gone.add(found);
    }
  return [...gone];
};
