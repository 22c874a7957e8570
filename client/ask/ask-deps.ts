import type { Send } from '../wire/http.ts';
import type { Progress } from '../terminal/progress.ts';
import type { Patience } from '../wire/retry.ts';
import type { Service } from '../wire/service.ts';

/** What asking for a build needs. */
export interface AskDeps {
  readonly send: Send;
  readonly service: Service;
  readonly progress: Progress;
  readonly patience: Patience;
  /** Aborted by ^C. */
  readonly signal: AbortSignal;
  /** Whether builds go on when the command is ended: those of a hook or a unit, whose time may be over, are asked for again. */
  readonly leavesBuilds?: boolean;
  /** Gets the build's log as it comes, if anybody wants it. */
  readonly onLog?: (text: string) => void;
}
