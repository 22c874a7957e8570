import { expect, it } from '@jest/globals';
import type { BuildView } from '../../services/core/protocol/build.ts';
import { EXTEND_VERSIONS } from '../machine/extended-versions.ts';
import { dkmsSource } from '../machine/make-source.ts';
import { sharedKiln } from '../machine/shared.ts';

const kiln = sharedKiln();
const MAKE =
  'make -C ${kernel_source_dir} M=${dkms_tree}/${PACKAGE_NAME}/${PACKAGE_VERSION}/build modules && sh extend.sh';

it('a module with extended versions (CRCs) alone is built: the kernel takes it', async () => {
  const source = await dkmsSource('extended', `MAKE="${MAKE} extended.ko"`, {
    'extend.sh': EXTEND_VERSIONS,
  });
  const made = await kiln.json<BuildView>('build', source, '-k', kiln.release);
  expect(made).toMatchObject({ state: 'succeeded', modules: [{ name: 'extended' }] });
});

it('one whose extended version of a symbol is another kernel’s is refused, with that symbol', async () => {
  const spoil = EXTEND_VERSIONS.replace(
    'pack("V", $crc)',
    'pack("V", $name eq "module_layout" ? 7 : $crc)',
  );
  const source = await dkmsSource('misversioned', `MAKE="${MAKE} misversioned.ko"`, {
    'extend.sh': spoil,
  });
  const { status, stderr } = await kiln.kiln('build', source, '-k', kiln.release);
  expect([status, stderr]).toEqual([
    1,
    expect.stringMatching(
      /module misversioned was built against other versions \(CRCs\) of module_layout/,
    ),
  ]);
});
