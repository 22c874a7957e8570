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
      expect(() => parseBuildUsers(text)).toThrow(/is FIRST-LAST between 1 and 2147483647/);
    },
  );

  const users = parseBuildUsers('2000-2009');
  const check = (register: Register, line: string) => (): void =>
    mustBeNobodys(users, register, `root:x:0:0:root:/root:/bin/sh\n${line}\n`);

  it.each([
    ['passwd', 'ada:x:2003:100::/home/ada:/bin/sh', '2003 to ada'],
    ['passwd', 'bob:x:100:2009::/home/bob:/bin/sh', '2009 to bob'],
    ['group', 'staff:x:2000:ada,bob', '2000 to staff'],
    ['subuid', 'ada:1000:1001', '1000-2000 to ada'],
    ['subgid', 'ada:2009:65536', '2009-67544 to ada'],
    ['subuid', 'ada:2005:1', '2005 to ada'],
  ] as const)('are nobody’s: /etc/%s with %j is refused', (register, line, who) => {
    expect(check(register, line)).toThrow(
      `builds would run as users 2000-2009, of which /etc/${register} on the Docker host gives ${who}, who`,
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
