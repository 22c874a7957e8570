import { describe, expect, it } from '@jest/globals';
import {
  higherTrust,
  refusalToSign,
  roleReaches,
  ROLES,
  trustReaches,
  TRUSTS,
} from '../../services/core/policy.ts';

it('leaves unsigned what a kernel wants signed in a way that Kiln does not sign', () => {
  const build = {
    sourceTrust: 'admin',
    kernelTrust: 'admin',
    signatureHash: 'sha1',
    toolchainState: 'pinned',
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
    ['client', 'client', /source was not pushed by ci/],
    ['client', 'admin', /source was not pushed by ci/],
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
      }),
    ).toMatch(/candidate, not pinned/);
  });
});
