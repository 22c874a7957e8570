import { describe, expect, it } from '@jest/globals';
import { chooseBoot, compareReleases } from '../../services/core/kernel/boot-choice.ts';

const KERNELS = ['6.1.0-9-amd64', '6.1.0-56-amd64', '6.1.0-55-amd64'];
const [OLDEST, NEWEST, OLDER] = ['6.1.0-9-amd64', '6.1.0-56-amd64', '6.1.0-55-amd64'];

describe('the kernel to start', () => {
  it('is the newest where that is complete', () => {
    expect(chooseBoot(KERNELS, new Map([[OLDER, 'x']]), null)).toEqual({
      kind: 'free',
      release: NEWEST,
    });
  });

  it('is the newest complete one where the newest is not, and says why', () => {
    const incomplete = new Map([
      [NEWEST, 'zfs failed'],
      [OLDER, 'zfs is missing'],
    ]);
    expect(chooseBoot(KERNELS, incomplete, null)).toEqual({
      kind: 'hold',
      release: OLDEST,
      instead: NEWEST,
      why: 'zfs failed',
    });
  });

  it('is the one that the admin chose where that is complete', () => {
    expect(chooseBoot(KERNELS, new Map([[NEWEST, 'x']]), OLDER)).toEqual({
      kind: 'free',
      release: OLDER,
    });
    expect(chooseBoot(KERNELS, new Map([[OLDER, 'x']]), OLDER)).toMatchObject({
      kind: 'hold',
      release: NEWEST,
      instead: OLDER,
    });
  });

  it('is the newest where the chosen one is gone', () => {
    expect(chooseBoot(KERNELS, new Map(), '5.10.0-1-amd64')).toMatchObject({ release: NEWEST });
  });

  it('is none where none is complete, or there is none', () => {
    const incomplete = new Map(KERNELS.map((release) => [release, `of ${release}`]));
    expect(chooseBoot(KERNELS, incomplete, null)).toEqual({
      kind: 'helpless',
      instead: NEWEST,
      why: `of ${NEWEST}`,
    });
    expect(chooseBoot([], new Map(), null)).toBeNull();
  });
});

describe('releases', () => {
  it('are ordered by age', () => {
    const byAge = [
      '5.10.0-33-amd64',
      '6.1.0-9-amd64',
      '6.1.0-55-amd64',
      '6.1.0-56-amd64',
      '6.1.0-56-cloud-amd64',
      '6.12.9+deb12-amd64',
      '6.12.117+deb12-amd64',
      '6.13~rc1-amd64',
      '6.13-amd64',
    ];
    expect(byAge.toReversed().sort(compareReleases)).toEqual(byAge);
  });
});
