import { join } from 'node:path';
import { readFile, writeFile } from 'node:fs/promises';
import { digestOf } from '../../services/core/digest.ts';
import type { IssuedToken } from '../../services/core/protocol/token.ts';
import type { Role } from '../../services/core/policy/policy.ts';
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
  /** A new token's secret. */
  newToken(name: string, role: Role, ...options: string[]): Promise<string>;
  /** A call of the API, as curl would make it. */
  call(token: string, method: string, path: string, body?: unknown): Promise<Response>;
  /** Uploads bytes as a blob. */
  put(token: string, bytes: Uint8Array<ArrayBuffer> | string, blob?: string): Promise<Response>;
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
  const json = async <T>(...args: string[]): Promise<T> => {
    const { status, stdout, stderr } = await kiln(...args, '--json', '--quiet');
    if (status !== 0) throw new Error(`kiln ${args.join(' ')} ended with ${status}: ${stderr}`);
    return JSON.parse(stdout) as T;
  };
  return {
    ...facts,
    adminToken: async () => (await readFile(tokenFile, 'utf8')).trim(),
    kiln,
    json,
    async kilnAs(token, ...args) {
      if (token === null) return run(CLIENT, args, { env: environment });
      const file = join(facts.data, `token-${process.pid}-${Math.random()}`);
      await writeFile(file, token, { mode: 0o600 });
      return run(CLIENT, args, { env: { ...environment, KILN_TOKEN_FILE: file } });
    },
    newToken: async (name, role, ...options) =>
      (await json<IssuedToken>('token', 'create', name, '--role', role, ...options)).secret,
    call: (token, method, path, body) =>
      fetch(`${facts.url}/v1${path}`, {
        method,
        headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      }),
    put: (token, bytes, blob = digestOf(bytes)) =>
      fetch(`${facts.url}/v1/blobs/${blob}`, {
        method: 'PUT',
        headers: { Authorization: `Bearer ${token}` },
        body: bytes,
      }),
  };
};
