import { chmod } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import { connectDocker } from '../../services/builder/docker.ts';
import type { Digest } from '../../services/core/digest.ts';
import type { BuildView } from '../../services/core/protocol/build.ts';
import { bareMake } from '../machine/bare-make.ts';
import { dkmsSource } from '../machine/make-source.ts';
import { sharedKiln } from '../machine/shared.ts';

/** Sources that build for the kernel that runs, as they are told of it: within a build that is the kernel it is for. */

const kiln = sharedKiln();

/** A Makefile that finds a kernel's headers by itself, and builds against those. */
const makefile = (headers: string): string => `HEADERS ?= ${headers}
all:
	$(MAKE) -C $(HEADERS) M=$(CURDIR) modules
`;

describe('a source whose Makefile', () => {
  it.each([
    ['asks uname, with a bare MAKE', 'asks-uname', '/lib/modules/$(shell uname -r)/build'],
    ['reads /proc/version', 'reads-proc', '/lib/modules/$(word 3,$(file </proc/version))/build'],
    [
      'takes the headers that are named after uname',
      'names-headers',
      '/usr/src/linux-headers-$(shell uname -r)',
    ],
    [
      'reads osrelease in a program of its own',
      'runs-program',
      '/lib/modules/$(shell sh ./release)/build',
    ],
  ])(
    '%s is built for the kernel that was asked for, with DKMS’s bytes',
    async (_, name, headers) => {
      const source = await dkmsSource(name, 'MAKE="make"', {
        Makefile: makefile(headers),
        Kbuild: `obj-m := ${name}.o\n`,
        release: 'read -r release </proc/sys/kernel/osrelease; echo "$release"\n',
      });
      const made = await kiln.json<BuildView>('build', source, '-k', kiln.kernel);
      const image = await connectDocker('/var/run/docker.sock').findImage(kiln.toolchain as Digest);
      const { release } = kiln;
      const facts = { source, name, version: '1.0', release, headers: kiln.headers };
      expect(
        Object.fromEntries(made.modules.map((module) => [module.name, module.unsigned])),
      ).toEqual(await bareMake({ ...facts, image: image ?? '' }));
    },
  );

  it('asks uname for anything else is told of that kernel, and of root, as DKMS runs', async () => {
    const source = await dkmsSource('asks-all', 'PRE_BUILD="ask"\nMAKE="make KVER=$(uname -r)"', {
      Makefile: `all: ; $(MAKE) -C /lib/modules/$(KVER)/build M=$(CURDIR) modules\n`,
      Kbuild: 'obj-m := asks-all.o\n',
      ask: '#!/bin/sh\nfor each in -a "" -sr -mv --kernel-version -o; do uname $each; done; id -u; whoami\ncat /proc/version\n',
    });
    await chmod(join(source, 'ask'), 0o755);
    const made = await kiln.json<BuildView>('build', source, '-k', kiln.kernel);
    const log = (await kiln.kiln('logs', made.id)).stdout;
    const { release } = kiln;
    const build =
      /^Linux kiln \S+ (#\d+ SMP .* Debian \S+ \(\d{4}-\d\d-\d\d\)) x86_64 GNU\/Linux$/m.exec(
        log,
      )?.[1];
    expect(log).toContain(
      `Linux kiln ${release} ${build} x86_64 GNU/Linux\nLinux\nLinux ${release}\n${build} x86_64\n${build}\nGNU/Linux\n0\nroot\nLinux version ${release} (kiln@kiln) (gcc-12 `,
    );
  });
});
