import { describe, expect, it } from '@jest/globals';
import {
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
});
