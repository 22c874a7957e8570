import { describe, expect, it } from '@jest/globals';
import { packagedSources } from '../../services/core/source/packaged-sources.ts';
import { inspectSource } from '../../services/core/source/source.ts';
import { refusal, scanOf } from './samples.ts';

const CONF = 'PACKAGE_NAME="hello"\nPACKAGE_VERSION="1.0"\nAUTOINSTALL=yes\n';

const named = (files: Readonly<Record<string, string>>): readonly string[] =>
  packagedSources(scanOf(files)).map((each) =>
    'problem' in each ? each.problem.message : `${each.source.name}/${each.source.version}`,
  );

describe('the sources in a package', () => {
  it('are all directories of /usr/src with a dkms.conf, and nothing else', () => {
    const found = packagedSources(
      scanOf({
        'usr/src/other-2/dkms.conf': '',
        'usr/src/other-2/other.c': 'int other;',
        'usr/src/hello-1.0/dkms.conf': CONF,
        'usr/src/hello-1.0/hello.c': 'int hello;',
        'usr/src/hello-1.0/test/dkms.conf': '',
        'usr/src/plain-3/Makefile': '',
        'usr/share/hello-4/dkms.conf': CONF,
        'etc/dkms.conf': '',
        'DEBIAN/control': 'Depends: dkms, libelf-dev\n',
      }),
    );
    expect(found).toMatchObject([
      {
        directory: '/usr/src/hello-1.0',
        source: { name: 'hello', version: '1.0', autoinstall: true, needs: ['libelf-dev'] },
        layout: [{ from: 'usr/src/hello-1.0', to: '' }],
      },
      { directory: '/usr/src/other-2', source: { name: 'other', version: '2' } },
    ]);
  });

  it('have the trees of those directories, as a host sends them', () => {
    const files = { 'dkms.conf': CONF, 'hello.c': 'int hello;', 'test/dkms.conf': '' };
    const below = Object.fromEntries(
      Object.entries(files).map(([path, text]) => [`usr/src/hello-1.0/${path}`, text]),
    );
    const [packaged] = packagedSources(scanOf({ ...below, 'usr/share/doc/hello/copyright': '' }));
    expect(packaged).toHaveProperty('source', inspectSource(scanOf(files)).source);
  });

  it('are none in a package of tools, or one that only depends on others', () => {
    expect(named({ 'usr/bin/dh_dkms': '', 'usr/share/dh-dkms/dkms.conf': CONF })).toEqual([]);
    expect(named({ 'DEBIAN/control': 'Depends: other-dkms\n' })).toEqual([]);
  });

  it.each([
    ['hello-1.0', CONF, 'hello/1.0'],
    ['hello-1.0', '', 'hello/1.0'],
    ['qcacld-2.0-0.1', 'PACKAGE_NAME=qcacld-2.0', 'qcacld-2.0/0.1'],
    ['qcacld-2.0-0.1', 'PACKAGE_VERSION=0.1', 'qcacld-2.0/0.1'],
    ['mstflint-4.31.0+1', 'PACKAGE_NAME="mstflint"\nPACKAGE_VERSION="#V#"', 'mstflint/4.31.0+1'],
    ['linux-apfs-rw-0.3.0-1', 'PACKAGE_NAME=$(x)\nPACKAGE_VERSION=$(y)', 'linux-apfs-rw/0.3.0-1'],
    // DKMS goes by the directory, whatever the conf says.
    ['hello-2.0', CONF, 'hello/2.0'],
    ['my-mod-v2', '', 'my-mod/v2'],
  ])('are called after their directories: %s', (directory, conf, name) => {
    expect(named({ [`usr/src/${directory}/dkms.conf`]: conf })).toEqual([name]);
  });

  it('that cannot be one keep no other back', () => {
    const found = packagedSources(
      scanOf({
        'usr/src/hello/dkms.conf': '',
        'usr/src/ring-1/dkms.conf': 'BUILD_DEPENDS=ring\n',
        'usr/src/hello-1.0/dkms.conf': CONF,
      }),
    );
    expect(found).toEqual([
      {
        directory: '/usr/src/hello',
        problem: refusal('bad-source', /\/usr\/src\/hello is not called after/),
      },
      expect.objectContaining({ source: expect.objectContaining({ name: 'hello' }) }),
      { directory: '/usr/src/ring-1', problem: refusal('bad-source', /ring depends on itself/) },
    ]);
  });

  it('are built against the sources of packages that theirs depends on, named in BUILD_DEPENDS or not', () => {
    const conf = `${CONF}BUILD_DEPENDS[0]=first\n`;
    const found = packagedSources(scanOf({ 'usr/src/hello-1.0/dkms.conf': conf }), [
      'other',
      'hello',
      'first',
    ]);
    expect(found).toMatchObject([{ source: { depends: ['first', 'other'] } }]);
  });
});
