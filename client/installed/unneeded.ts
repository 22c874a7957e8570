import { z } from 'zod';
import type { Receipt } from './receipts.ts';
import type { Wanted } from './wanted.ts';

const Inputs = z.object({ dependencies: z.array(z.object({ name: z.string() })) });

/** The sources that a module set was built against: it loads with theirs only. */
const neededBy = ({ inputs }: Receipt): readonly string[] =>
  Inputs.safeParse(inputs).data?.dependencies.map(({ name }) => name) ?? [];

/** What goes, and what was installed for it alone: that nobody wants by name, and nothing that stays was built against. */
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
  // What goes brings down what it needed, and that what it needed.
  for (const receipt of gone)
    for (const name of neededBy(receipt)) {
      const found = receipts.find((each) => each.release === receipt.release && each.name === name);
      if (found === undefined || wanted.some((each) => each.name === name)) continue;
      if (!isNeeded(found)) gone.add(found);
    }
  return [...gone];
};
