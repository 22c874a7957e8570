import { describe, expect, it } from '@jest/globals';
import {
  higherTrust,
  refusalToSign,
  roleReaches,
  ROLES,
  trustReaches,
  TRUSTS,
} from '../../services/core/policy/policy.ts';

const PLAIN = { asker: 'client', isTailored: false } as const;

it('leaves unsigned what a kernel wants signed in a way that Kiln does not sign', () => {
  const build = {
    sourceTrust: 'admin',
    kernelTrust: 'admin',
    signatureHash: 'sha1',
    toolchainState: 'pinned',
    ...PLAIN,
  } as const;
  expect(refusalToSign(build)).toMatch(/signatures with sha1/);
});

describe('a role', () => {
  it('reaches itself and the ones before it: client, ci, admin', () => {
    const reached = ROLES.map((role) => ROLES.filter((needed) => roleReaches(role, needed)));
    expect(reached).toEqual([['client'], ['client', 'ci'], ['client', 'ci', 'admin']]);
  });
});

describe('trust', () => {
  it('goes from clients over ci and signed archives to admins', () => {
    const approved = TRUSTS.filter((trust) => trustReaches(trust, 'archive'));
    expect(approved).toEqual(['archive', 'admin']);
  });

  it('is joined with another to the higher of the two, in either order', () => {
    expect(higherTrust('client', 'ci')).toBe('ci');
    expect(higherTrust('admin', 'archive')).toBe('admin');
    expect(higherTrust('ci', 'archive')).toBe('archive');
  });
});

describe('the policy for signing', () => {
  it.each([
    ['client', 'client', /source was neither pushed by ci/],
    ['client', 'admin', /source was neither pushed by ci/],
    ['ci', 'client', /headers were neither verified .* nor approved/],
    ['ci', 'ci', /headers were neither verified .* nor approved/],
    ['admin', 'ci', /headers were neither verified .* nor approved/],
  ] as const)('refuses a source of %s on a kernel of %s', (sourceTrust, kernelTrust, reason) => {
    expect(
      refusalToSign({
        sourceTrust,
        kernelTrust,
        signatureHash: 'sha256',
        toolchainState: 'pinned',
        ...PLAIN,
      }),
    ).toMatch(reason);
  });

  it.each(['ci', 'admin'] as const)('lets a source of %s on an admin’s kernel pass', (role) => {
    expect(
      refusalToSign({
        sourceTrust: role,
        kernelTrust: 'admin',
        signatureHash: 'sha256',
        toolchainState: 'pinned',
        ...PLAIN,
      }),
    ).toBeNull();
  });

  it('lets headers pass that were verified from a distribution’s archive', () => {
    expect(
      refusalToSign({
        sourceTrust: 'ci',
        kernelTrust: 'archive',
        signatureHash: 'sha256',
        toolchainState: 'pinned',
        ...PLAIN,
      }),
    ).toBeNull();
  });

  it('lets a source pass that was verified from a distribution’s archive', () => {
    expect(
      refusalToSign({
        sourceTrust: 'archive',
        kernelTrust: 'archive',
        signatureHash: 'sha256',
        toolchainState: 'pinned',
        ...PLAIN,
      }),
    ).toBeNull();
  });

  it('signs nothing that a candidate toolchain made', () => {
    expect(
      refusalToSign({
        sourceTrust: 'admin',
        kernelTrust: 'admin',
        signatureHash: 'sha256',
        toolchainState: 'candidate',
        ...PLAIN,
      }),
    ).toMatch(/is candidate, not pinned/);
  });

  it('signs nothing that a retired toolchain made before it was ever pinned', () => {
    const build = { sourceTrust: 'ci', kernelTrust: 'admin', signatureHash: 'sha256' } as const;
    expect(refusalToSign({ ...build, ...PLAIN, toolchainState: 'retired' })).toMatch(/is retired/);
  });

  it.each([
    ['client', /settings or waivers/],
    ['ci', null],
    ['admin', null],
  ] as const)(
    'lets the settings and waivers of %s into what is signed only from ci on',
    (asker, words) => {
      const build = { sourceTrust: 'ci', kernelTrust: 'admin', signatureHash: 'sha256' } as const;
      const reason = refusalToSign({ ...build, toolchainState: 'pinned', asker, isTailored: true });
      if (words === null) expect(reason).toBeNull();
      else expect(reason).toMatch(words);
    },
  );
});
