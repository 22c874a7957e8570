import type { Send } from './http.ts';
import type { Progress } from './progress.ts';
import type { Patience } from './retry.ts';
import type { Service } from './service.ts';

/** What asking for a build needs. */
export interface AskDeps {
  readonly send: Send;
  readonly service: Service;
  readonly progress: Progress;
  readonly patience: Patience;
  /** Aborted by ^C. */
  readonly signal: AbortSignal;
  /** Gets the build's log as it comes, if anybody wants it. */
  readonly onLog?: (text: string) => void;
}
