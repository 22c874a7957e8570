import { exitStatus, KilnError } from '../../services/core/errors.ts';
import { DkmsEnd } from './end.ts';
import { tellEnd, type DkmsSession } from './session.ts';

/** Does work, and gives the exit status that dkms would end with; what went wrong is told. */
export const statusOf = async (
  { session }: { readonly session: Pick<DkmsSession, 'complain'> },
  work: () => Promise<void>,
): Promise<number> => {
  try {
    await work();
    return 0;
  } catch (error) {
    if (error instanceof DkmsEnd) {
      tellEnd(session, error);
      return error.status;
    }
    if (!(error instanceof KilnError)) throw error;
    tellEnd(session, new DkmsEnd(exitStatus(error.code), error.message.trim().split('\n')));
    // dkms's own statuses begin with 1, and 77 means excluded.
    return error.code === 'excluded' ? 77 : exitStatus(error.code);
  }
};
