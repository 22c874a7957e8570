import { isColourWanted } from '../config.ts';
import { plain } from './output.ts';

/** Progress for people, on standard error: on a terminal one line that is rewritten, elsewhere a line for each step. */
export interface Progress {
  /** What is being done now. */
  step(text: string): void;
  /** A detail of the current step, shown on a terminal only. */
  detail(text: string): void;
  /** A line that stays. */
  say(text: string): void;
  /** Ends the line that is being rewritten. */
  done(): void;
}

const TICK = 200;

export const createProgress = (stream: NodeJS.WriteStream, isQuiet: boolean): Progress => {
  if (isQuiet) return { step() {}, detail() {}, say() {}, done() {} };
  if (!stream.isTTY) {
    let last = '';
    const say = (text: string): void => {
      if (text !== last) stream.write(`${plain(text)}\n`);
      last = text;
    };
    return { step: say, detail() {}, say, done() {} };
  }
  let [current, extra, since] = ['', '', performance.now()];
  let timer: NodeJS.Timeout | null = null;
  const clear = (): void => void stream.write('\r\u001b[K');
  const draw = (): void => {
    const seconds = ((performance.now() - since) / 1000).toFixed(1);
    const dim = (text: string): string =>
      isColourWanted(stream) ? `\u001b[2m${text}\u001b[22m` : text;
    const room = Math.max(20, stream.columns - current.length - 12);
    clear();
    stream.write(
      `${current} ${dim(`${seconds} s${extra === '' ? '' : `  ${extra.slice(0, room)}`}`)}`,
    );
  };
  return {
    step(text) {
      if (plain(text) === current) return;
      [current, extra, since] = [plain(text), '', performance.now()];
      timer ??= setInterval(draw, TICK);
      draw();
    },
    detail(text) {
      extra = plain(text);
    },
    say(text) {
      clear();
      stream.write(`${plain(text)}\n`);
      if (timer !== null) draw();
    },
    done() {
      if (timer === null) return;
      clearInterval(timer);
      timer = null;
      clear();
    },
  };
};
