import { describe, expect, it } from '@jest/globals';
import { higherRole, refusalToSign, roleReaches, ROLES } from '../../services/core/policy.ts';

it('leaves unsigned what a kernel wants signed in a way that Kiln does not sign', () => {
  const build = { sourceTrust: 'admin', kernelTrust: 'admin', signatureHash: 'sha1' } as const;
  expect(refusalToSign(build)).toMatch(/signatures with sha1/);
});

describe('a role', () => {
  it('reaches itself and the ones before it: client, ci, admin', () => {
    const reached = ROLES.map((role) => ROLES.filter((needed) => roleReaches(role, needed)));
    expect(reached).toEqual([['client'], ['client', 'ci'], ['client', 'ci', 'admin']]);
  });

  it('is joined with another to the higher of the two, in either order', () => {
    expect(higherRole('client', 'ci')).toBe('ci');
    expect(higherRole('admin', 'ci')).toBe('admin');
    expect(higherRole('ci', 'ci')).toBe('ci');
  });
});

describe('the policy for signing', () => {
  it.each([
    ['client', 'client', /source was not pushed by ci/],
    ['client', 'admin', /source was not pushed by ci/],
    ['ci', 'client', /headers were not approved by an admin/],
    ['ci', 'ci', /headers were not approved by an admin/],
    ['admin', 'ci', /headers were not approved by an admin/],
  ] as const)('refuses a source of %s on a kernel of %s', (sourceTrust, kernelTrust, reason) => {
    expect(refusalToSign({ sourceTrust, kernelTrust, signatureHash: 'sha256' })).toMatch(reason);
  });

  it.each(['ci', 'admin'] as const)('lets a source of %s on an admin’s kernel pass', (role) => {
    expect(
      refusalToSign({ sourceTrust: role, kernelTrust: 'admin', signatureHash: 'sha256' }),
    ).toBeNull();
  });
});
