import { describe, expect, it } from '@jest/globals';
import { digestOf } from '../../services/core/digest.ts';
import { SourceView } from '../../services/core/protocol.ts';

describe('a source from the wire', () => {
  const view = {
    digest: digestOf('source'),
    tree: digestOf('tree'),
    name: 'v4l2loopback',
    version: '0.12.7',
    kind: 'dkms',
    trust: 'admin',
    createdAt: 0,
  };

  it('is taken by a client with an ordinary name', () => {
    expect(SourceView.safeParse(view).success).toBe(true);
  });

  it.each([
    { name: '../../etc/docker/daemon' },
    { name: '/etc/x' },
    { version: '1/../..' },
    { name: '' },
  ])('is not taken with %j, as it becomes part of paths on a host', (odd) => {
    expect(SourceView.safeParse({ ...view, ...odd }).success).toBe(false);
  });
});
