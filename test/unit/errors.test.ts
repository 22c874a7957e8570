import { describe, expect, it } from '@jest/globals';
import {
  errorMeaning,
  errorTable,
  exitStatus,
  hasErrno,
  httpStatus,
  isErrorCode,
  KilnError,
} from '../../services/core/errors.ts';

describe('the table of errors', () => {
  it('gives each code an HTTP status of failure, an exit status of failure and a meaning', () => {
    for (const { code, status, exit, meaning } of errorTable()) {
      expect(isErrorCode(code)).toBe(true);
      expect(status).toBeGreaterThanOrEqual(400);
      expect(status).toBeLessThan(600);
      expect(exit).toBeGreaterThan(0);
      expect(exit).toBeLessThan(256);
      expect(meaning).toMatch(/^[A-Z].*[^.]$/);
    }
  });

  it('has each code once, and says the same by code as in whole', () => {
    const table = errorTable();
    expect(new Set(table.map(({ code }) => code)).size).toBe(table.length);
    for (const { code, ...entry } of table) {
      if (!isErrorCode(code)) throw new Error(`${code} is in the table only`);
      expect(entry).toEqual({
        status: httpStatus(code),
        exit: exitStatus(code),
        meaning: errorMeaning(code),
      });
    }
  });

  it.each([
    ['bad-request', 400, 2],
    ['unauthenticated', 401, 4],
    ['forbidden', 403, 4],
    ['not-found', 404, 3],
    ['too-large', 413, 2],
    ['bad-tarball', 422, 2],
    ['build-failed', 500, 1],
    ['excluded', 409, 77],
    ['unverified', 422, 6],
    ['install-failed', 500, 7],
    ['storage-full', 507, 5],
    ['internal', 500, 70],
  ] as const)('answers %s with HTTP %d and exit status %d', (code, status, exit) => {
    expect([httpStatus(code), exitStatus(code)]).toEqual([status, exit]);
  });

  it.each(['', 'oops', 'Bad-Request', 'constructor', 'toString', '__proto__'])(
    'is closed: %j from the wire is none of its codes',
    (text) => {
      expect(isErrorCode(text)).toBe(false);
    },
  );
});

describe('a KilnError', () => {
  it('carries its code, its sentence and its cause', () => {
    const cause = new Error('disk');
    const error = new KilnError('storage-full', 'no room', { cause });
    expect(error).toBeInstanceOf(Error);
    expect(error).toMatchObject({ name: 'KilnError', code: 'storage-full', message: 'no room' });
    expect(error.cause).toBe(cause);
  });
});

describe('hasErrno', () => {
  it('knows a failure of the system by its code', () => {
    const error = Object.assign(new Error('no space'), { code: 'ENOSPC' });
    expect(hasErrno(error, 'ENOSPC')).toBe(true);
    expect(hasErrno(error, 'ENOENT')).toBe(false);
  });

  it.each([null, undefined, 'ENOSPC', new Error('ENOSPC'), { code: 'ENOSPC' }])(
    'does not take %p for one',
    (failure) => {
      expect(hasErrno(failure, 'ENOSPC')).toBe(false);
    },
  );
});
