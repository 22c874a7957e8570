import type { Duplex } from 'node:stream';
import { KilnError } from '../core/errors.ts';
import type { Recipe } from '../core/build/recipe.ts';
import { createPieces } from './pieces.ts';

const EVALUATION_LIMIT = 1024 * 1024;

/** The builder's side of the conversation with `images/build`. */
export interface Conversation {
  /** Takes the next piece of the script's stdout. */
  hear(piece: Buffer, input: Duplex): Promise<void>;
  /** The tarball of modules, once the script has ended. */
  tarball(): Buffer;
}

/**
 * Starts the conversation. The script sends the evaluation of dkms.conf, `answer` makes a recipe of it, which the script gets, and then
 * the script sends the tarball. Its output is hostile: malformed output, or an evaluation over 1 MiB, throws `KilnError('bad-source')`.
 */
export const startConversation = (answer: (evaluation: Buffer) => Recipe): Conversation => {
  const heard = createPieces();
  let isAnswered = false;
  let size: number | null = null;
  let start = 0;
  const tarball = createPieces();

  return {
    async hear(piece, input) {
      if (isAnswered) {
        tarball.add(piece);
        return;
      }
      heard.add(piece);
      if (size === null) {
        const head = heard.whole().subarray(0, 16);
        const newline = head.indexOf(10);
        if (newline < 0 && head.length < 16) return;
        const digits = head.toString('latin1', 0, Math.max(newline, 0));
        if (!/^\d{1,8}$/.test(digits) || Number(digits) > EVALUATION_LIMIT) {
          throw new KilnError('bad-source', 'the evaluation of dkms.conf gave a malformed answer');
        }
        start = newline + 1;
        size = Number(digits);
      }
      if (heard.length() < start + size) return;
      const whole = heard.whole();
      const recipe = answer(whole.subarray(start, start + size));
      isAnswered = true;
      tarball.add(whole.subarray(start + size));
      input.end(recipeFields(recipe));
    },
    tarball: () => tarball.whole(),
  };
};

/** A recipe as `images/build` reads it. */
const recipeFields = (recipe: Recipe): string => {
  const stepFields = (isLast: boolean): string[] =>
    recipe.steps
      .filter(({ label }) => (label === 'post-build') === isLast)
      .flatMap(({ kind, label, command }) => [kind, label, command]);
  const takes =
    recipe.modules.kind === 'every'
      ? ['every']
      : recipe.modules.list.flatMap(({ path, name, strip }) => [
          'take',
          path,
          name,
          strip ? 'strip' : 'keep',
        ]);
  return [...stepFields(false), ...takes, ...stepFields(true), 'end']
    .map((field) => `${field.replaceAll('\0', '')}\0`)
    .join('');
};
