import { expect, it } from '@jest/globals';
import { connectDocker } from '../../services/builder/docker.ts';
import type { Digest } from '../../services/core/digest.ts';
import type { BuildView } from '../../services/core/protocol/build.ts';
import { buildWithDkms } from '../conformance/with-dkms.ts';
import { dkmsSource, moduleCode } from '../machine/make-source.ts';
import { sharedKiln } from '../machine/shared.ts';

/** Sources that came with what somebody's build left in them. */

const kiln = sharedKiln();

it('a source with another kernel’s config.h, objects and Module.symvers is cleaned first, which is said, and gives the module that DKMS makes', async () => {
  const name = 'built-before';
  const stale = {
    'config.h': '#define ANSWER stale\n',
    [`${name}.o`]: 'not even an object\n',
    [`.${name}.o.cmd`]: `savedcmd_${name}.o := true\n`,
    [`${name}.mod.c`]: '#error made for another kernel\n',
    'Module.symvers': '0x00000000\tmodule_layout\tvmlinux\tEXPORT_SYMBOL\t\n',
  };
  const source = await dkmsSource(name, 'MAKE="make all"\nCLEAN="make clean"', {
    [`${name}.c`]: moduleCode(
      '#include "config.h"\n#include <linux/stringify.h>\nMODULE_INFO(answer, __stringify(ANSWER));',
    ),
    Kbuild: `obj-m := ${name}.o\n`,
    Makefile: `all: config.h
	$(MAKE) -C /lib/modules/$(KERNELRELEASE)/build M=$(CURDIR) modules
config.h:
	echo '#define ANSWER fresh' >$@
clean:
	rm -f config.h *.o *.mod *.mod.c .*.cmd Module.symvers modules.order
`,
    ...stale,
  });
  const made = await kiln.json<BuildView>('build', source, '-k', kiln.kernel);
  expect(new Map(made.modules[0]?.modinfo ?? []).get('answer')).toBe('fresh');
  expect((await kiln.kiln('logs', made.id)).stdout).toContain(
    'kiln: clean: the source has what an earlier build left; it is cleaned first: make clean\n',
  );
  const image = await connectDocker('/var/run/docker.sock').findImage(kiln.toolchain as Digest);
  const subject = { package: '', deb: '', directory: source, name, version: '1.0' };
  const dkms = await buildWithDkms(subject, kiln.release, image ?? '', 2);
  expect(dkms).toMatchObject({ outcome: 'built' });
  expect(made.modules.map(({ unsigned }) => unsigned)).toEqual([
    `sha256:${dkms.modules[`${name}.ko`]}`,
  ]);
});
