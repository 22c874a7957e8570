import { chmod } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from '@jest/globals';
import type { BuildView } from '../../services/core/protocol/build.ts';
import { dkmsSource, moduleCode } from '../machine/make-source.ts';
import { sharedKiln } from '../machine/shared.ts';

/** Sources that look for what they are built against where DKMS has it. */

const kiln = sharedKiln();

const exporting = (name: string, conf = '', files: Readonly<Record<string, string>> = {}) =>
  dkmsSource(name, conf, {
    [`${name}.c`]: moduleCode(`int ${name}_is(void) { return 1; }\nEXPORT_SYMBOL(${name}_is);`),
    ...files,
  });

it('a source with BUILD_DEPENDS=("a" "b") in one line that reads their Module.symvers through DKMS’s kernel-RELEASE-ARCH is built against both', async () => {
  await kiln.json('source', 'push', await exporting('lower'));
  // Some put the symbols beside the modules themselves, as MLNX_OFED does.
  const script = '#!/bin/sh\ncp Module.symvers "../$1/$2/module/"\n';
  const middle = await exporting('middle', 'POST_BUILD="keep $kernelver x86_64"', { keep: script });
  await chmod(join(middle, 'keep'), 0o755);
  await kiln.json('source', 'push', middle);
  const upper = await dkmsSource('upper', 'BUILD_DEPENDS=("lower" "middle")', {
    Makefile: `obj-m := upper.o
symvers := $(foreach each,lower middle,/var/lib/dkms/$(each)/kernel-$(KERNELRELEASE)-x86_64/module/Module.symvers)
$(if $(filter-out $(words $(wildcard $(symvers))),2),$(error $(symvers) are not there))
override KBUILD_EXTRA_SYMBOLS := $(symvers)
`,
    'upper.c': `#include <linux/module.h>
int lower_is(void);
int middle_is(void);
static int __init start(void) { return lower_is() + middle_is() == 2 ? 0 : -1; }
module_init(start);
MODULE_LICENSE("GPL");
`,
  });
  const made = await kiln.json<BuildView>('build', upper, '-k', kiln.kernel);
  expect(made.dependencies).toHaveLength(2);
  expect(made.state).toBe('succeeded');
  const modinfo = new Map(made.modules[0]?.modinfo ?? []);
  expect(modinfo.get('depends')?.split(',').sort()).toEqual(['lower', 'middle']);
});

it('a source that looks for the modules themselves, where dkms installs them, finds those of what it is built against', async () => {
  await kiln.json('source', 'push', await exporting('lowest'));
  // As nvidia-fs does, which takes the symbols from there.
  const upper = await dkmsSource('looking', 'BUILD_DEPENDS="lowest"', {
    Makefile: `obj-m := looking.o
there := /lib/modules/$(KERNELRELEASE)/updates/dkms/lowest.ko
$(if $(shell nm $(there) | grep -w lowest_is),,$(error $(there) is not there))
`,
    'looking.c': moduleCode(''),
  });
  const made = await kiln.json<BuildView>('build', upper, '-k', kiln.kernel);
  expect(made.state).toBe('succeeded');
  expect(made.modules.map(({ name }) => name)).toEqual(['looking']);
});

it('a source whose own modules export what its dependency exports, too, imports it from its own', async () => {
  // As nvidia-tesla does, which Debian has beside nvidia-current, of another version.
  const code = (type: string): string =>
    moduleCode(`int twice(${type} it) { return 1; }\nEXPORT_SYMBOL(twice);`);
  await kiln.json('source', 'push', await dkmsSource('former', '', { 'former.c': code('int') }));
  const upper = await dkmsSource(
    'latter',
    'BUILD_DEPENDS="former"\nBUILT_MODULE_NAME[1]="using"\nDEST_MODULE_LOCATION[1]="/updates"',
    {
      Makefile: 'obj-m := latter.o using.o\n',
      'latter.c': code('char *'),
      'using.c': `#include <linux/module.h>
int twice(char *it);
static int __init start(void) { return twice("") - 1; }
module_init(start);
MODULE_LICENSE("GPL");
`,
    },
  );
  const made = await kiln.json<BuildView>('build', upper, '-k', kiln.kernel);
  expect(made.state).toBe('succeeded');
  expect(made.modules.map(({ name }) => name)).toEqual(['latter', 'using']);
});
