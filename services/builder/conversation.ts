import type { Duplex } from 'node:stream';
import { KilnError } from '../core/errors.ts';
import type { Recipe } from '../core/recipe.ts';

const EVALUATION_LIMIT = 1024 * 1024;

/** The builder's side of what `images/build` says and is told. */
export interface Conversation {
  /** Takes the next piece of the script's stdout. */
  hear(piece: Buffer, input: Duplex): Promise<void>;
  /** The archive of modules, once the script has ended. */
  archive(): Buffer;
}

/**
 * First the evaluation of dkms.conf comes in; `answer` makes the recipe of it, which is sent; then the archive comes in.
 * What comes is hostile: out of form, or an evaluation over 1 MiB, throws `KilnError('bad-source')`.
 */
export const startConversation = (answer: (evaluation: Buffer) => Recipe): Conversation => {
  let heard = Buffer.alloc(0);
  let isAnswered = false;
  const pieces: Buffer[] = [];

  return {
    async hear(piece, input) {
      if (isAnswered) {
        pieces.push(Buffer.from(piece));
        return;
      }
      heard = Buffer.concat([heard, piece]);
      const newline = heard.indexOf(10);
      if (newline < 0 && heard.length < 16) return;
      const size = /^\d{1,8}$/.test(heard.toString('latin1', 0, newline))
        ? Number(heard.toString('latin1', 0, newline))
        : Infinity;
      if (size > EVALUATION_LIMIT)
        throw new KilnError('bad-source', 'the evaluation of dkms.conf gave an answer out of form');
      if (heard.length < newline + 1 + size) return;
      const recipe = answer(heard.subarray(newline + 1, newline + 1 + size));
      isAnswered = true;
      pieces.push(Buffer.from(heard.subarray(newline + 1 + size)));
      input.end(recipeFields(recipe));
    },
    archive: () => Buffer.concat(pieces),
  };
};

/** A recipe as `images/build` reads it. */
const recipeFields = (recipe: Recipe): string => {
  const fields = recipe.steps.flatMap(({ label, command, mayFail }) => [
    mayFail ? 'try' : 'run',
    label,
    command,
  ]);
  if (recipe.modules.kind === 'every') fields.push('every');
  else {
    for (const { path, name, strip } of recipe.modules.list)
      fields.push('take', path, name, strip ? 'strip' : 'keep');
  }
  return [...fields, 'end'].map((field) => `${field.replaceAll('\0', '')}\0`).join('');
};
