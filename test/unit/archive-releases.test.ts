import { describe, expect, it } from '@jest/globals';
import {
  checkArchive,
  headersByRelease,
  modulePackages,
  type KernelArchive,
} from '../../services/core/kernel/archive.ts';
import { refusal } from './samples.ts';

const HEADERS = String.raw`linux-headers-(?<release>6\.1\.0-\d+-(?<flavour>amd64))`;
const STANZA = 'Types: deb\nURIs: http://deb.example.org\nSuites: x\nSigned-By: /a.gpg\n';
const REPO = '[a]\nbaseurl=https://rpm.example.org\ngpgkey=file:///a.asc\n';
const archive = (given: Partial<KernelArchive>): KernelArchive => ({
  name: 'debian-12',
  kind: 'apt',
  sources: STANZA,
  headers: HEADERS,
  modules: null,
  buildsAhead: false,
  ...given,
});

describe('the packages of an archive', () => {
  it('with headers are those that the pattern has, and those called linux-headers-RELEASE', () => {
    const names = [
      'linux-headers-6.1.0-57-amd64',
      'linux-headers-6.1.0-57-rt-amd64',
      'linux-headers-amd64',
      'linux-image-6.1.0-57-amd64',
      'kernel-devel-5.14.0-1.el9.x86_64',
    ];
    expect([...headersByRelease({ headers: HEADERS }, names)]).toEqual([
      ['6.1.0-57-amd64', 'linux-headers-6.1.0-57-amd64'],
      ['6.1.0-57-rt-amd64', 'linux-headers-6.1.0-57-rt-amd64'],
    ]);
    expect(
      headersByRelease({ headers: 'kernel-devel-(?<release>.*)' }, names).get(
        '5.14.0-1.el9.x86_64',
      ),
    ).toBe('kernel-devel-5.14.0-1.el9.x86_64');
  });

  it('of modules are those whose whole name the pattern has, and none without one', () => {
    const names = ['zfs-dkms', 'acpi-call-dkms', 'zfs-dkms-dbg', 'dkms'];
    expect(modulePackages({ modules: '.*-dkms' }, names)).toEqual(['acpi-call-dkms', 'zfs-dkms']);
    expect(modulePackages({ modules: null }, names)).toEqual([]);
  });
});

describe('an archive’s description', () => {
  it.each(['yes', 'no'])('may say Check-Valid-Until: %s, as a snapshot needs it', (word) => {
    const sources = `${STANZA}Check-Valid-Until: ${word}\n`;
    expect(checkArchive(archive({ sources })).sources).toBe(sources);
  });

  it.each([
    [{ sources: `${STANZA}Check-Valid-Until: maybe\n` }, /Check-Valid-Until is yes or no/],
    [{ modules: '(' }, /modules’ packages is not a valid regular expression/],
    [{ modules: 'x'.repeat(301) }, /modules’ packages has over 300 characters/],
    [{ kind: 'rpm' as const, modules: '.*-kmod' }, /\.repo file has a line/],
    [{ kind: 'rpm' as const, sources: REPO, modules: '.*-kmod' }, /from apt archives alone/],
    [{ buildsAhead: true }, /no sources to build ahead/],
    [{ headers: 'linux-headers-.*' }, /needs a group \(\?<release>…\)/],
  ])('is refused with %j', (given, words) => {
    expect(() => checkArchive(archive(given))).toThrow(refusal('bad-request', words));
  });
});
