/** The umask for files that all users of a host may read: modules, indexes, receipts. */
const FOR_EVERYBODY = 0o022;

/**
 * Does work whose files all users of a host may read, those of programs that it runs included, whatever umask this process was given
 * (root's is often 077). Secret files get their mode explicitly.
 */
export const forEverybody = async <T>(work: () => Promise<T>): Promise<T> => {
  const before = process.umask(FOR_EVERYBODY);
  try {
    return await work();
  } finally {
    process.umask(before);
  }
};
