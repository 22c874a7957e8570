import { expect, it } from '@jest/globals';
import { connectDocker } from '../../services/builder/docker.ts';
import type { Digest } from '../../services/core/digest.ts';
import type { BuildView } from '../../services/core/protocol/build.ts';
import { buildWithDkms } from '../conformance/with-dkms.ts';
import { moduleCode, writeTree } from '../machine/make-source.ts';
import { sharedKiln } from '../machine/shared.ts';

const kiln = sharedKiln();

it('a source with DEST_MODULE_LOCATION="/kernel/../updates/" (OFED, xpmem) is built, with DKMS’s bytes', async () => {
  const name = 'climbs';
  const source = await writeTree(name, {
    'dkms.conf': `PACKAGE_NAME=${name}\nPACKAGE_VERSION=1.0\nBUILT_MODULE_NAME[0]=${name}\nDEST_MODULE_LOCATION[0]="/kernel/../updates/"\n`,
    Makefile: `obj-m := ${name}.o\n`,
    [`${name}.c`]: moduleCode(),
  });
  const made = await kiln.json<BuildView>('build', source, '-k', kiln.kernel);
  const image = await connectDocker('/var/run/docker.sock').findImage(kiln.toolchain as Digest);
  const subject = { package: '', deb: '', directory: source, name, version: '1.0' };
  const dkms = await buildWithDkms(subject, kiln.release, image ?? '', 2);
  expect(made.modules.map(({ unsigned }) => unsigned)).toEqual([
    `sha256:${dkms.modules[`${name}.ko`]}`,
  ]);
});
