import { describe, expect, it } from '@jest/globals';
import { CallFailed, connectionFailed, statusFault, type Fault } from '../../client/wire/fault.ts';
import {
  createPatience,
  keepTrying,
  nextPause,
  type Patience,
  type Trials,
} from '../../client/wire/retry.ts';
import { KilnError } from '../../services/core/errors.ts';

const fault = (change: Partial<Fault> = {}): Fault => ({
  reason: 'connection refused',
  mayPass: true,
  mayBeDone: false,
  wait: null,
  ...change,
});
const trials = (change: Partial<Trials> = {}): Trials => ({
  failures: 1,
  total: 1,
  elapsed: 0,
  ...change,
});

describe('the pause before another try', () => {
  it('is anything below a bound that doubles up to ten seconds', () => {
    const longest = [1, 2, 3, 4, 5, 6, 7, 8, 100].map((failures) =>
      nextPause(fault(), true, trials({ failures }), 3600, 1),
    );
    expect(longest).toEqual([250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000, 10_000]);
    expect(nextPause(fault(), true, trials({ failures: 9 }), 60, 0)).toBe(0);
  });

  it('goes no further than patience does, and there is none after it', () => {
    expect(nextPause(fault(), true, trials({ failures: 9, elapsed: 59_000 }), 60, 1)).toBe(1000);
    expect(nextPause(fault(), true, trials({ elapsed: 60_000 }), 60, 0)).toBeNull();
    expect(nextPause(fault(), true, trials(), 0, 0)).toBeNull();
    expect(nextPause(fault(), true, trials({ total: 1000 }), 9999, 0)).toBeNull();
  });

  it('is at least what the other side asks for, unless that is beyond patience', () => {
    expect(nextPause(fault({ wait: 5 }), true, trials(), 60, 0)).toBe(5000);
    expect(nextPause(fault({ wait: 61 }), true, trials(), 60, 0)).toBeNull();
  });

  it('is not taken for what stays as it is, nor for what may be done already and must not be done twice', () => {
    expect(nextPause(fault({ mayPass: false }), true, trials(), 60, 0)).toBeNull();
    expect(nextPause(fault({ mayBeDone: true }), false, trials(), 60, 0)).toBeNull();
    expect(nextPause(fault({ mayBeDone: true }), true, trials(), 60, 0)).toBe(0);
    expect(nextPause(fault(), false, trials(), 60, 0)).toBe(0);
  });
});

describe('keeping trying', () => {
  const failing = (): CallFailed => new CallFailed('unreachable', 'gone', fault());
  const patience = (
    seconds: number,
    said: string[] = [],
    signal = new AbortController().signal,
  ): Patience => createPatience({ seconds, signal, say: (text) => void said.push(text) });

  it('gives what comes of the try that works, and says why there was another', async () => {
    const said: string[] = [];
    let tries = 0;
    const result = await keepTrying(patience(60, said), true, () => {
      tries += 1;
      return tries < 3 ? Promise.reject(failing()) : Promise.resolve('here');
    });
    expect(result).toBe('here');
    expect(said).toEqual(
      Array(2).fill(expect.stringMatching(/^connection refused; again in 0\.\d s$/)),
    );
  });

  it('tries once without patience, and never again after a refusal', async () => {
    let tries = 0;
    const once = (error: Error) => (): Promise<never> => {
      tries += 1;
      return Promise.reject(error);
    };
    await expect(keepTrying(patience(0), true, once(failing()))).rejects.toThrow('gone');
    const refusal = new KilnError('not-found', 'no such thing');
    await expect(keepTrying(patience(60), true, once(refusal))).rejects.toBe(refusal);
    expect(tries).toBe(2);
  });

  it('is over for all calls of a command together, until something comes through', async () => {
    let time = 0;
    let tries = 0;
    const { signal } = new AbortController();
    const shared = createPatience({ seconds: 60, signal, say: () => (time += 40_000) }, () => time);
    const once = (): Promise<never> => {
      tries += 1;
      return Promise.reject(failing());
    };
    await expect(keepTrying(shared, true, once)).rejects.toThrow('gone');
    expect(tries).toBe(3);
    await expect(keepTrying(shared, true, once)).rejects.toThrow('gone');
    expect(tries).toBe(4);
    await keepTrying(shared, true, () => Promise.resolve());
    await expect(keepTrying(shared, true, once)).rejects.toThrow('gone');
    expect(tries).toBe(7);
  });

  it('ends with ^C, also between two tries', async () => {
    const interrupted = new AbortController();
    setTimeout(() => interrupted.abort(), 300);
    await expect(
      keepTrying(patience(60, [], interrupted.signal), true, () => Promise.reject(failing())),
    ).rejects.toMatchObject({ name: 'AbortError' });
  });
});

describe('a fault', () => {
  const caused = (code: string): CallFailed =>
    connectionFailed(Object.assign(new Error('low'), { code }), 'https://kiln.test', false);

  it.each([
    ['ECONNREFUSED', 'connection refused'],
    ['ENOTFOUND', 'no such host'],
    ['EAI_AGAIN', 'no such host'],
    ['ETIMEDOUT', 'timed out'],
    ['ECONNRESET', 'connection broken'],
    ['ENETUNREACH', 'no way to it'],
  ])('of %s may pass and is called %s', (code, reason) => {
    const error = caused(code);
    expect(error).toMatchObject({ code: 'unreachable', fault: { reason, mayPass: true } });
    expect(error.message).toMatch(`https://kiln.test does not answer: ${reason}; `);
  });

  it.each([
    ['DEPTH_ZERO_SELF_SIGNED_CERT', 'certificate not trusted'],
    ['UNABLE_TO_GET_ISSUER_CERT_LOCALLY', 'certificate not trusted'],
    ['CERT_HAS_EXPIRED', 'certificate out of date'],
    ['ERR_TLS_CERT_ALTNAME_INVALID', 'certificate for another name'],
    ['ERR_SSL_WRONG_VERSION_NUMBER', 'no TLS understood by both'],
    ['HPE_INVALID_CONSTANT', 'no HTTP understood by both'],
  ])('of %s stays and is called %s', (code, reason) => {
    expect(caused(code).fault).toMatchObject({ reason, mayPass: false });
  });

  it('is in a status that says to come again, with the time it asks for if that is seconds', () => {
    expect(statusFault(503, '7')).toMatchObject({ mayPass: true, mayBeDone: true, wait: 7 });
    expect(statusFault(429, 'Wed, 21 Oct 2015 07:28:00 GMT')).toMatchObject({
      mayBeDone: false,
      wait: null,
    });
    for (const status of [400, 401, 404, 409, 500, 507])
      expect(statusFault(status, undefined)).toBeNull();
  });
});
