import { describe, expect, it } from '@jest/globals';
import { readRepoFile } from '../../services/core/kernel/repo-file.ts';

/** As Fedora's and CentOS's are, with the address that the admin chose. */
const FEDORA = `# what Fedora has, and a mirror
[updates]
name=Fedora $releasever - $basearch - Updates
#metalink=https://mirrors.example.org/metalink?repo=updates
baseurl=https://mirror.example.org/fedora/updates/40/Everything/x86_64/
enabled=1
countme=1
repo_gpgcheck=0
type=rpm
gpgcheck=1
metadata_expire=6h
gpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-fedora-40-x86_64
       file:///etc/pki/rpm-gpg/old%20key
skip_if_unavailable=False

[updates-source]
baseurl=https://mirror.example.org/fedora/updates/40/Everything/source/tree/
enabled=0
`;

describe('a .repo file', () => {
  it('names an address, the keys, and what they sign', () => {
    expect(readRepoFile(FEDORA)).toEqual({
      base: 'https://mirror.example.org/fedora/updates/40/Everything/x86_64',
      keys: ['/etc/pki/rpm-gpg/RPM-GPG-KEY-fedora-40-x86_64', '/etc/pki/rpm-gpg/old key'],
      isMetadataSigned: false,
    });
  });

  it('has signed metadata unless it says otherwise', () => {
    const suse =
      '[oss]\r\nbaseurl = http://x.example.org/oss\r\ngpgkey = file:///key\r\nautorefresh = 1\r\n';
    expect(readRepoFile(suse)).toMatchObject({ isMetadataSigned: true });
  });

  it.each([
    ['unsigned packages', 'gpgcheck=1', 'gpgcheck=0', /gpgcheck=0; leave it out.*nothing unsigned/],
    ['a word of doubt', 'gpgcheck=1', 'gpgcheck=maybe', /gpgcheck=maybe; write 1 or 0/],
    ['no TLS', 'type=rpm', 'sslverify=0', /sslverify=0/],
    ['zypp’s unsigned packages', 'type=rpm', 'pkg_gpgcheck=no', /pkg_gpgcheck=0/],
    ['a setting twice', 'type=rpm', 'gpgcheck=1', /sets gpgcheck twice/],
    ['mirrors', '#metalink', 'metalink', /names its mirrors by metalink; give the baseurl/],
    ['a proxy', 'type=rpm', 'proxy=http://p', /sets proxy; leave it out/],
    ['a password', 'https://mirror.', 'https://me:secret@mirror.', /has a user, a password/],
    ['a query', 'x86_64/\n', 'x86_64/?a=b\n', /has a user, a password, \? or #/],
    ['a variable', '/40/', '/$releasever/', /baseurl has a variable/],
    ['two addresses', 'x86_64/\n', 'x86_64/ https://b.example.org/\n', /must be one address/],
    ['another scheme', 'https://mirror.e', 'ftp://mirror.e', /may be http, https or file/],
    ['no address', /baseurl=.*\n/, '', /no baseurl/],
    ['no key', /gpgkey=[^]*old%20key\n/, '', /names no gpgkey/],
    ['a key elsewhere', 'file:///etc', 'https://x.example.org', /gpgkey that is no file/],
    ['a key on a host', 'file:///etc', 'file://etc', /with three slashes/],
    ['two repositories', 'enabled=0', 'enabled=1', /2 repositories that are enabled/],
    ['none', 'enabled=1', 'enabled=0', /0 repositories that are enabled/],
    ['a line of nothing', 'type=rpm', 'rpm', /neither \[NAME\] nor KEY=VALUE: "rpm"/],
  ])('with %s is refused', (_, from, to, words) => {
    const text = FEDORA.replace(from, to);
    expect(text).not.toBe(FEDORA);
    expect(() => readRepoFile(text)).toThrow(words);
  });

  it('that is a deb822 text is refused', () => {
    expect(() => readRepoFile('Types: deb\nURIs: http://x\n')).toThrow(/neither \[NAME\] nor/);
  });
});
