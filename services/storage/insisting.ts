import { setTimeout as sleep } from 'node:timers/promises';
import { KilnError } from '../core/errors.ts';

/** The most tries, which are further and further apart. */
const TRIES = 12;

/**
 * Does something again, from its beginning, for as long as PostgreSQL says that others got in its way (`serialization_failure`,
 * `deadlock_detected`): nothing of it was done then.
 */
export const insisting = async <T>(work: () => Promise<T>): Promise<T> => {
  for (let tried = 1; ; tried += 1) {
    try {
      return await work();
    } catch (error) {
      const isInTheWay = ['40001', '40P01'].includes(codeOf(error));
      if (!isInTheWay) throw error;
      if (tried === TRIES)
        throw new KilnError(
          'unavailable',
          'too many others change the same in the database; try again in a moment',
          { cause: error, retryAfter: 1 },
        );
      await sleep(Math.random() * Math.min(2 ** tried, 500));
    }
  }
};

/** The code of an error of a system or of SQL, of whatever realm; '' for others. */
export const codeOf = (error: unknown): string => {
  if (Object.prototype.toString.call(error) !== '[object Error]') return '';
  const { code } = error as { readonly code?: unknown };
  return typeof code === 'string' ? code : '';
};
