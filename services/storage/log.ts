import { pino, type Logger } from 'pino';

/** A role's own log: one JSON object a line on stderr. */
export type Log = Logger;

/** Opens a role's log. Tokens never reach it. */
export const openLog = (role: string, level: string): Log =>
  pino(
    { name: role, level, redact: ['req.headers.authorization'] },
    pino.destination({ dest: 2, sync: true }),
  );
