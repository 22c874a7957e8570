import { describe, expect, it } from '@jest/globals';
import type { BuildView } from '../../services/core/protocol/build.ts';
import { moduleCode, writeTree } from '../machine/make-source.ts';
import { sharedKiln } from '../machine/shared.ts';

/** Sources whose MAKE also installs what it made (r8125, xpmem). */

const kiln = sharedKiln();

/** A source laid out as r8125's: its dkms.conf runs `make all` in src/, and that installs. */
const installingSource = (name: string, install: string): Promise<string> =>
  writeTree(name, {
    'dkms.conf': `PACKAGE_NAME="${name}"
PACKAGE_VERSION="1.0"
BUILT_MODULE_NAME[0]="${name}"
BUILT_MODULE_LOCATION[0]="src"
DEST_MODULE_LOCATION[0]="/kernel/../updates/"
MAKE="'make' -C src/ all"
CLEAN="'make' -C src/ clean"
`,
    [`src/${name}.c`]: moduleCode(),
    'src/Makefile': `ifneq ($(KERNELRELEASE),)
obj-m := ${name}.o
else
KVER ?= $(shell uname -r)
KDIR := /lib/modules/$(KVER)/build
KMOD := /lib/modules/$(KVER)/kernel/drivers/net/ethernet
all: clean modules install
modules:
	$(MAKE) -C $(KDIR) M=$(CURDIR) modules
clean:
	$(MAKE) -C $(KDIR) M=$(CURDIR) clean
install:
	${install}
endif
`,
  });

describe('a source whose MAKE also installs', () => {
  it('through the kernel’s makefiles or by itself, and runs depmod, gives its module', async () => {
    const source = await installingSource(
      'installs',
      [
        '$(MAKE) -C $(KDIR) M=$(CURDIR) INSTALL_MOD_DIR=kernel/drivers/net/ethernet/realtek modules_install',
        'install -D -m 644 installs.ko /lib/modules/$(KVER)/updates/dkms/installs.ko',
        'cp installs.ko $(KMOD)/ && strip -g $(KMOD)/installs.ko',
        '/bin/sh -c "depmod -a $(KVER)"',
      ].join('\n\t'),
    );
    const made = await kiln.json<BuildView>('build', source, '-k', kiln.kernel);
    expect(made).toMatchObject({ state: 'succeeded', modules: [{ name: 'installs' }] });
    expect((await kiln.kiln('logs', made.id)).stdout).toContain('kiln: depmod is left to hosts');
  });

  it('elsewhere fails, and it is said what wrote where and which target does not', async () => {
    const source = await installingSource(
      'installs-rules',
      'install -D -m 644 Makefile /etc/udev/rules.d/60-rules.rules',
    );
    const { status, stderr } = await kiln.kiln('build', source, '-k', kiln.kernel);
    expect([status, stderr]).toEqual([
      1,
      expect.stringContaining(
        "the build writes to /etc/udev, outside its own directory, as an installation does (install: cannot create directory '/etc/udev': Read-only file system); have MAKE name a target that only builds, such as modules (compile-failed)",
      ),
    ]);
  });
});
