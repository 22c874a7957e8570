import { describe, expect, it } from '@jest/globals';
import {
  DEFAULT_BUILD_USERS,
  mustBeNobodys,
  parseBuildUsers,
  type Register,
} from '../../services/core/sandbox/build-users.ts';

describe('the users that builds run as', () => {
  it('are by default above all that distributions, nspawn, useradd and sssd give out', () => {
    expect(parseBuildUsers(DEFAULT_BUILD_USERS)).toEqual({ first: 2100000000, last: 2100000999 });
  });

  it.each(['', '5', '0-7', '9-8', '-1-4', '1-2147483648', '1-4294967295', '1-99999999999', 'a-b'])(
    'are not %j',
    (text) => {
      expect(() => parseBuildUsers(text)).toThrow(/are FIRST-LAST, from 1 to 2147483647/);
    },
  );

  const users = parseBuildUsers('2000-2009');
  const check = (register: Register, line: string) => (): void =>
    mustBeNobodys(users, register, `root:x:0:0:root:/root:/bin/sh\n${line}\n`);

  it.each([
    ['passwd', 'ada:x:2003:100::/home/ada:/bin/sh', 'ada 2003'],
    ['passwd', 'bob:x:100:2009::/home/bob:/bin/sh', 'bob 2009'],
    ['group', 'staff:x:2000:ada,bob', 'staff 2000'],
    ['subuid', 'ada:1000:1001', 'ada 1000-2000'],
    ['subgid', 'ada:2009:65536', 'ada 2009-67544'],
    ['subuid', 'ada:2005:1', 'ada 2005'],
  ] as const)('are nobody’s: /etc/%s with %j is refused', (register, line, who) => {
    expect(check(register, line)).toThrow(
      `builds would run as users 2000-2009, and /etc/${register} of the Docker host gives ${who}, who`,
    );
  });

  it.each([
    ['passwd', 'ada:x:1999:2010::/home/ada:/bin/sh'],
    ['group', 'staff:x:2010:'],
    ['subuid', 'ada:1000:1000'],
    ['subgid', 'ada:2010:65536'],
    ['subuid', 'ada:2005:0'],
    ['passwd', '+::::::'],
    ['group', ''],
  ] as const)('may be where /etc/%s has %j', (register, line) => {
    expect(check(register, line)).not.toThrow();
  });
});
