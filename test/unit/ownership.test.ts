import { describe, expect, it } from '@jest/globals';
import {
  archiveHolder,
  archiveId,
  archiveOf,
  isNamedBy,
  NamePattern,
  whyNotPublish,
  type NameHolder,
} from '../../services/core/policy/ownership.ts';

const holder = (name: string, given: Partial<NameHolder> = {}): NameHolder => ({
  id: `${name}-token-id`,
  name,
  role: 'ci',
  names: [],
  ...given,
});
const acme = holder('acme', { names: ['acme-*'] });
const team = holder('team');
const admin = holder('admin', { role: 'admin' });

describe('a pattern of names', () => {
  it.each([
    ['acme-*', 'acme-net', true],
    ['acme-*', 'acme-', true],
    ['acme-*', 'xacme-net', false],
    ['acme', 'acme', true],
    ['acme', 'acme2', false],
    ['a.b', 'axb', false],
    ['*', 'anything', true],
    ['lib*++', 'libc++', true],
  ])('%s and the name %s: %s', (pattern, name, is) => expect(isNamedBy(pattern, name)).toBe(is));

  it('is plain', () => {
    for (const text of ['', 'a b', 'a/b', '[a]', 'a?'])
      expect(NamePattern.safeParse(text).success).toBe(false);
  });
});

describe('the name of a source', () => {
  it('is the token’s that published it first, and nobody else’s', () => {
    expect(whyNotPublish('net', team, team, [acme])).toBeNull();
    expect(whyNotPublish('net', holder('rival'), team, [])).toBe(
      'the name net belongs to the token team (team-tok); take another name, or have an admin give you this one (kiln source give net rival-token-id)',
    );
    expect(whyNotPublish('net', admin, team, [])).toMatch(/belongs to the token team/);
    expect(whyNotPublish('net', team, admin, [])).toMatch(/belongs to the token admin/);
  });

  it('that is an admin’s is every admin’s', () =>
    expect(whyNotPublish('net', holder('other', { role: 'admin' }), admin, [])).toBeNull());

  it('that nobody has is for who comes first, unless an admin gave it to another', () => {
    expect(whyNotPublish('net', team, null, [acme])).toBeNull();
    expect(whyNotPublish('acme-net', team, null, [acme])).toMatch(/belongs to the token acme/);
    expect(whyNotPublish('acme-net', acme, null, [])).toBeNull();
    expect(whyNotPublish('acme-net', acme, team, [])).toBeNull();
  });

  it('must be one of those that a token was given, if it was given any', () =>
    expect(whyNotPublish('net', acme, null, [])).toMatch(
      /may publish only acme-\*; an admin can give it the name net \(kiln source give net acme-token-id\)/,
    ));

  it('is an archive’s that brought it first: every archive’s, and no token’s', () => {
    const [debian, other] = [archiveHolder('debian-12'), archiveHolder('debian-13')];
    expect(whyNotPublish('net', debian, null, [acme])).toBeNull();
    expect(whyNotPublish('net', other, debian, [])).toBeNull();
    expect(whyNotPublish('net', admin, debian, [])).toBe(
      'the name net belongs to the archive debian-12; take another name, or have an admin give you this one (kiln source give net admin-token-id)',
    );
  });

  it('is not taken by an archive where it is a token’s', () => {
    const debian = archiveHolder('debian-12');
    const words =
      /belongs to the token .*; hosts that have the package.*\(kiln source give \S+ archive:debian-12\)/;
    expect(whyNotPublish('net', debian, team, [])).toMatch(words);
    expect(whyNotPublish('net', debian, admin, [])).toMatch(words);
    expect(whyNotPublish('acme-net', debian, null, [acme])).toMatch(words);
  });
});

it('an archive’s id is told from a token’s', () => {
  expect(archiveOf(archiveId('debian-12'))).toBe('debian-12');
  expect(archiveOf('b3c1ad2e-0000-4000-8000-000000000000')).toBeNull();
});
