import { describe, expect, it } from '@jest/globals';
import { connectDocker } from '../../services/builder/docker.ts';
import type { Digest } from '../../services/core/digest.ts';
import type { BuildView } from '../../services/core/protocol/build.ts';
import { bareMake } from '../machine/bare-make.ts';
import { copyHeaders } from '../machine/change-headers.ts';
import { fewHeaders } from '../machine/few-headers.ts';
import { pinToolchain, startKiln } from '../machine/kiln-service.ts';
import { dkmsSource, freshDirectory, moduleCode, writeTree } from '../machine/make-source.ts';
import { sharedKiln } from '../machine/shared.ts';

/** That what a kernel's makefiles ask the toolchain is asked once for all builds, and nothing is different for it. */

const kiln = sharedKiln();
const build = async (
  source: string,
): Promise<{ readonly made: BuildView; readonly log: string }> => {
  const made = await kiln.json<BuildView>('build', source, '-k', kiln.kernel);
  return { made, log: (await kiln.kiln('logs', made.id)).stdout };
};

describe('what a kernel’s makefiles ask the toolchain', () => {
  it('is answered as the toolchain answers, and what is new is asked', async () => {
    const code = moduleCode(`#ifndef KNOWN
#error "-Wno-unused is not known"
#endif
#ifdef UNKNOWN
#error "-fno-such-option is known"
#endif
`);
    const source = await writeTree('asks', {
      Kbuild: `obj-m := asks.o
ccflags-y += $(if $(call cc-option,-Wno-unused),-DKNOWN) $(if $(call cc-option,-fno-such-option),-DUNKNOWN)
$(info answers are of a $(origin kiln-name), $(call cc-option-yn,-mfentry))
`,
      'asks.c': code,
    });
    await kiln.json('source', 'push', source, '--name', 'asks', '--version', '1.0');
    const { made, log } = await build('asks/1.0');
    expect(log).toContain('answers are of a file, y');
    const image = await connectDocker('/var/run/docker.sock').findImage(kiln.toolchain as Digest);
    const { release, headers } = kiln;
    const facts = { source, name: 'asks', version: '1.0', release, headers, image: image ?? '' };
    expect(
      Object.fromEntries(made.modules.map((module) => [module.name, module.unsigned])),
    ).toEqual(await bareMake(facts));
  });

  it('leaves a source that tells make what to read first to itself', async () => {
    const source = await dkmsSource('reads-first', 'MAKE="make -f outer.mk"', {
      'outer.mk': `MAKEFILES += $(CURDIR)/own.mk
$(info told to read $(words $(MAKEFILES)))
all: ; $(MAKE) -C /lib/modules/${kiln.release}/build M=$(CURDIR) modules
`,
      'own.mk': '$(info its own was read)\n',
    });
    await kiln.json('source', 'push', source);
    const { made, log } = await build('reads-first/1.0');
    expect(log).toMatch(/told to read 1\n[^]*its own was read/);
    expect(made.state).toBe('succeeded');
  });

  it('leaves alone what another makefile calls by the same names', async () => {
    // Written by the build, so that nothing in the source says what it will be.
    const make = 'make -f outer.mk';
    const source = await dkmsSource('namesake', `MAKE="sed s/@//g outer.in >outer.mk; ${make}"`, {
      'outer.in': `try@-run = its own
CC@_VERSION_TEXT = its own too
$(info there: $(call try@-run,a,b,c), $(CC@_VERSION_TEXT), $(firstword $(MAKEFILE_LIST)))
all: ; $(MAKE) -C /lib/modules/${kiln.release}/build M=$(CURDIR) modules
`,
    });
    await kiln.json('source', 'push', source);
    const { made, log } = await build('namesake/1.0');
    expect(log).toContain('there: its own, its own too, outer.mk');
    expect(made.state).toBe('succeeded');
  });

  it('leaves a source that sets these itself to itself', async () => {
    const make = `make -C /lib/modules/${kiln.release}/build M=$PWD PAHOLE_FLAGS=--its-own modules`;
    const source = await dkmsSource('own-words', `MAKE="${make}"`, {
      Kbuild: `obj-m := own-words.o
try-run = $(shell ($(1)) && echo its own $(2))
$(info here: $(call try-run,true,words,), $(PAHOLE_FLAGS))
`,
    });
    await kiln.json('source', 'push', source);
    const { made, log } = await build('own-words/1.0');
    expect(log).toContain('here: its own words, --its-own');
    expect(made.state).toBe('succeeded');
  });

  it('is remembered whatever characters a question has', async () => {
    const headers = await copyHeaders(await fewHeaders(kiln.release), kiln.release);
    const asking = 'hash := \\#\nprobe := $(call try-run,touch "/tmp/asked$(hash)",yes,no)\n';
    await headers.edit('Makefile', (text) => `${text}\n${asking}$(info probed $(probe))\n`);
    const own = await startKiln(await freshDirectory('answers'), { KILN_LOG_LEVEL: 'warn' });
    try {
      await pinToolchain(own);
      await own.json('kernel', 'push', headers.directory);
      const make = `make -C /lib/modules/${kiln.release}/build M=$PWD modules; ls /tmp`;
      const source = await dkmsSource('probes', `MAKE="${make}"`);
      const made = await own.json<BuildView>('build', source, '-k', kiln.release);
      const { stdout } = await own.kiln('logs', made.id);
      expect(stdout).toContain('probed yes');
      expect(stdout).not.toContain('asked#');
    } finally {
      await own.stop();
    }
  });
});
