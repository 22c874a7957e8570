import { describe, expect, it } from '@jest/globals';
import { digestOf } from '../../services/core/digest.ts';
import {
  debName,
  debVersion,
  flavourOf,
  kernelPackageVersion,
  rpmDistribution,
  rpmFlavourOf,
  versionOrder,
} from '../../services/core/packages/names.ts';
import { debPlan } from '../../services/core/packages/deb-plan.ts';
import { madeOfDigest } from '../../services/core/packages/plan-package.ts';
import { packageFingerprint, PackagePlan } from '../../services/core/packages/plan.ts';
import { PackageSubject, type ModulesSubject } from '../../services/core/packages/subject.ts';
import { compareVersions } from '../../services/core/source/source-version.ts';

export const subject: ModulesSubject = {
  kind: 'modules',
  build: '0123456789abcdef01234567',
  source: { name: 'v4l2loopback', version: '0.12.7-2' },
  kernel: { release: '6.1.0-57-amd64', arch: 'x86_64', version: '6.1.192-3' },
  modules: [{ name: 'v4l2loopback', signed: digestOf('ko'), size: 50_000, license: 'GPL' }],
  files: [
    { place: '/lib/firmware/cam/a.bin', digest: digestOf('fw'), size: 10 },
    { place: '/lib/modprobe.d/cam.conf', digest: digestOf('conf'), size: 10 },
  ],
  needs: ['Other_One'],
  attestation: { digest: digestOf('att'), size: 5000 },
  revision: 1,
};
const versionOf = (version: string, kernel: string | null = '6.1.192-3', revision = 1): string =>
  debVersion({
    ...subject,
    source: { name: 'x', version },
    kernel: { ...subject.kernel, version: kernel },
    revision,
  });

describe('names of packages', () => {
  it('are of the letters that packages may have', () => {
    const kernel = { ...subject.kernel, release: '6.9.0_rc1~A-My' };
    expect(debName({ ...subject, source: { name: 'My_Mod+', version: '1' }, kernel })).toBe(
      'my-mod+-modules-6.9.0-rc1-a-my',
    );
  });

  it.each([
    ['6.1.0-57-amd64', 'amd64'],
    ['6.1.0-57-cloud-amd64', 'cloud-amd64'],
    ['6.12.117+deb13-amd64', 'amd64'],
    ['6.12.117+deb13-rt-amd64', 'rt-amd64'],
    ['6.8.0-40-generic', 'generic'],
    ['6.4.0-150600.23.42-default', 'default'],
    ['6.9.0', null],
    ['5.14.0-427.el9.x86_64', null],
    ['6.9.0-mine', 'mine'],
  ])('tell the flavour of %s: %s', (release, flavour) => {
    expect(flavourOf(release)).toBe(flavour);
  });

  it.each([
    ['5.14.0-427.el9.x86_64', null, 'el9'],
    ['5.14.0-427.13.1.el9_4.x86_64', null, 'el9'],
    ['5.14.0-427.13.1.el9_4.x86_64+rt', 'rt', 'el9'],
    ['5.14.0-427.el9.aarch64+64k', '64k', 'el9'],
    ['6.8.5-301.fc40.x86_64+debug', 'debug', 'fc40'],
    ['6.4.0-150600.23.42-default', 'default', null],
  ])('tell flavour and distribution of %s among RPMs', (release, flavour, distribution) => {
    expect([rpmFlavourOf(release), rpmDistribution(release)]).toEqual([flavour, distribution]);
  });

  it.each([
    ['5.14.0-427.el9.x86_64', '5.14.0-427.13.1.el9_4.x86_64'],
    ['4.18.0-553.el8_10.x86_64', '4.18.0-553.5.1.el8_10.x86_64'],
  ])('have an order of their own among RPMs: %s is before %s', (older, newer) => {
    expect(versionOrder('rpm')(older, newer)).toBeLessThan(0);
    expect(versionOrder('deb')(older, newer)).toBeGreaterThan(0);
  });

  it.each([
    ['6.1.0-57-amd64', '#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-3 (2026-11-20)', '6.1.192-3'],
    ['6.8.0-40-generic', '#40~22.04.3-Ubuntu SMP Tue Jul 30', '6.8.0-40.40~22.04.3'],
    ['6.9.0', '#1 SMP', null],
    ['6.9.0', null, null],
  ])('tell the kernel’s package by %s and %s', (release, build, version) => {
    expect(kernelPackageVersion(release, build)).toBe(version);
  });
});

describe('versions of packages', () => {
  it.each([
    ['1.0-2', '1.0.1-0'],
    ['1.0-0.6.4.0', '1.0a-0.6.4.0'],
    ['1.0-9', '1.0-10'],
  ])('of rpm are compared before their releases: %s is older than %s', (older, newer) => {
    expect(versionOrder('rpm')(older, newer)).toBeLessThan(0);
    expect(versionOrder('kmp')(newer, older)).toBeGreaterThan(0);
  });

  it('have the source’s, the kernel’s and a count', () => {
    expect(versionOf('0.12.7')).toBe('0.12.7-0+6.1.192.3+1');
    expect(versionOf('2.1.11-1')).toBe('2.1.11-1+6.1.192.3+1');
    expect(versionOf('1.0_x', null, 3)).toBe('1.0.x-0+3');
    expect(versionOf('abc')).toBe('0.abc-0+6.1.192.3+1');
  });

  it('rise as the source’s do, then as the kernel’s, then with the count', () => {
    const rising = [
      versionOf('1.0~rc1'),
      versionOf('1.0'),
      versionOf('1.0', '6.1.192-4'),
      versionOf('1.0', '6.1.200-1'),
      versionOf('1.0', '6.1.200-1', 2),
      versionOf('1.0', '6.1.200-1', 10),
      versionOf('1.0-1'),
      versionOf('1.0-2'),
      versionOf('1.0a'),
      versionOf('1.0+git1-1'),
      versionOf('1.0.1'),
      versionOf('1.9'),
      versionOf('1.10'),
    ];
    expect(rising.toSorted(compareVersions)).toEqual(rising);
  });
});

describe('a plan', () => {
  it('is in the form that travels', () => {
    for (const each of [
      subject,
      { kind: 'common' } as const,
      {
        kind: 'settings',
        source: subject.source,
        licenses: ['GPL'],
        files: subject.files,
        revision: 1,
      } as const,
      {
        kind: 'flavour',
        source: subject.source,
        flavour: 'amd64',
        kernel: subject.kernel,
        revision: 1,
      } as const,
    ]) {
      expect(PackageSubject.parse(each)).toEqual(each);
      const plan = debPlan(each);
      expect(PackagePlan.parse(plan)).toEqual(plan);
      expect(plan.control['control']).toMatch(/^Package: [^\n]+\n(?:[A-Z][^\n]*\n|[ ][^\n]+\n)+$/);
    }
  });

  it('puts firmware where one kernel looks, and leaves settings to their own package', () => {
    const { files, control } = debPlan(subject);
    expect(files.map(({ place }) => place)).toEqual([
      '/lib/modules/6.1.0-57-amd64/updates/v4l2loopback/v4l2loopback.ko',
      '/lib/firmware/updates/6.1.0-57-amd64/cam/a.bin',
      ...['changelog.Debian.gz', 'copyright', 'provenance.json'].map(
        (name) => `/usr/share/doc/v4l2loopback-modules-6.1.0-57-amd64/${name}`,
      ),
    ]);
    expect(control['control']).toMatch(
      /^Depends: .*other-one-modules-6\.1\.0-57-amd64, v4l2loopback-modules-settings$/m,
    );
  });

  it('has no line of its own from a license that has line breaks', () => {
    const [module] = subject.modules;
    if (module === undefined) throw new Error('no module');
    const plan = debPlan({
      ...subject,
      modules: [{ ...module, license: 'GPL' }],
    });
    expect(plan.control['control']?.match(/^Depends:/gm)).toHaveLength(1);
  });

  it('is another for every part of its subject, and its revision is no part of what it is made of', () => {
    const changed: ModulesSubject[] = [
      subject,
      { ...subject, revision: 2 },
      { ...subject, needs: [] },
      { ...subject, attestation: { digest: digestOf('other'), size: 5000 } },
      { ...subject, files: [] },
    ];
    const fingerprints = changed.map((each) =>
      packageFingerprint(debPlan(each), digestOf('toolchain'), digestOf('script')),
    );
    expect(new Set(fingerprints).size).toBe(changed.length);
    expect(madeOfDigest({ ...subject, revision: 2 })).toBe(madeOfDigest(subject));
    expect(madeOfDigest({ ...subject, needs: [] })).not.toBe(madeOfDigest(subject));
  });

  it('holds nothing in a path that leads elsewhere', () => {
    const plan = debPlan(subject);
    for (const place of ['/lib/../etc/x', 'lib/x', '/lib//x', '/lib/.x', '/lib/x\n'])
      expect(
        PackagePlan.safeParse({ ...plan, files: [{ place, content: { text: '' } }] }).success,
      ).toBe(false);
  });
});
