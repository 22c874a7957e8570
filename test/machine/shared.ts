import { join } from 'node:path';
import { readFile, writeFile } from 'node:fs/promises';
import { CLIENT } from './places.ts';
import { run, type Ran } from './run.ts';

/** The Kiln that `with-kiln.ts` started, for tests that need no Kiln of their own. */
export interface SharedKiln {
  readonly url: string;
  readonly data: string;
  /** Debian's newest 6.1 release, whose headers are pushed. */
  readonly release: string;
  readonly headers: string;
  /** v4l2loopback's source directory, pushed too. */
  readonly source: string;
  readonly toolchain: string;
  readonly kernel: string;
  adminToken(): Promise<string>;
  kiln(...args: string[]): Promise<Ran>;
  json<T>(...args: string[]): Promise<T>;
  /** The client with another token, or none. */
  kilnAs(token: string | null, ...args: string[]): Promise<Ran>;
}

/** The shared Kiln. Throws where the tests run without one. */
export const sharedKiln = (): SharedKiln => {
  const text = process.env['KILN_TEST_SHARED'];
  if (text === undefined) throw new Error('run these tests with npm test, or test/run FILE');
  const facts = JSON.parse(text) as Pick<
    SharedKiln,
    'url' | 'data' | 'release' | 'headers' | 'source' | 'toolchain' | 'kernel'
  >;
  const tokenFile = join(facts.data, 'admin.token');
  const environment = {
    ...process.env,
    KILN_SERVER: facts.url,
    KILN_CONFIG: join(facts.data, 'no.config'),
  };
  const kiln = (...args: string[]): Promise<Ran> =>
    run(CLIENT, args, { env: { ...environment, KILN_TOKEN_FILE: tokenFile } });
  return {
    ...facts,
    adminToken: async () => (await readFile(tokenFile, 'utf8')).trim(),
    kiln,
    async json<T>(...args: string[]): Promise<T> {
      const { status, stdout, stderr } = await kiln(...args, '--json', '--quiet');
      if (status !== 0) throw new Error(`kiln ${args.join(' ')} ended with ${status}: ${stderr}`);
      return JSON.parse(stdout) as T;
    },
    async kilnAs(token, ...args) {
      if (token === null) return run(CLIENT, args, { env: environment });
      const file = join(facts.data, `token-${process.pid}-${Math.random()}`);
      await writeFile(file, token, { mode: 0o600 });
      return run(CLIENT, args, { env: { ...environment, KILN_TOKEN_FILE: file } });
    },
  };
};
