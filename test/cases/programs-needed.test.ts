import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import { containersOf } from '../machine/containers.ts';
import { dkmsSource, freshDirectory, moduleCode } from '../machine/make-source.ts';
import { TOOLCHAIN } from '../machine/places.ts';
import { mustRun } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';

/** Sources whose build runs programs that a toolchain may not have. */

const kiln = sharedKiln();

/** A -dkms package, as Debian's are made. */
const dkmsPackage = async (name: string, depends: string): Promise<string> => {
  const tree = await freshDirectory(name);
  const source = join(tree, `usr/src/${name}-1.0`);
  await mkdir(join(tree, 'DEBIAN'));
  await mkdir(source, { recursive: true });
  await writeFile(
    join(tree, 'DEBIAN/control'),
    `Package: ${name}-dkms\nVersion: 1.0-1\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: a module\nDepends: ${depends}\n`,
  );
  await writeFile(
    join(source, 'dkms.conf'),
    `PACKAGE_NAME=${name}\nPACKAGE_VERSION=1.0\nBUILT_MODULE_NAME=${name}\nDEST_MODULE_LOCATION=/updates\n`,
  );
  await writeFile(join(source, 'Makefile'), `obj-m := ${name}.o\n`);
  await writeFile(join(source, `${name}.c`), moduleCode());
  const made = `${tree}.deb`;
  await mustRun('dpkg-deb', ['-Zgzip', '-b', tree, made]);
  return made;
};

describe('a source that needs programs', () => {
  it('as its -dkms package says is refused before any container, with the command that makes the toolchain', async () => {
    const deb = await dkmsPackage(
      'needs-flex',
      'dkms (>= 3.0), flex, autoconf (>= 2.69), bc, debconf (>= 0.5) | debconf-2.0, needs-flex-utils',
    );
    const { status, stderr } = await kiln.kiln('build', deb, '-k', kiln.kernel);
    const { name } = TOOLCHAIN;
    expect([status, stderr]).toEqual([
      2,
      expect.stringContaining(
        `Nearest: ${name}: it lacks the packages autoconf, flex. An admin makes one with those packages (images/make-toolchain images/${name} ${name}-more.tar autoconf flex) and pins it (kiln toolchain push ${name}-more.tar --name ${name}-more)`,
      ),
    ]);
    expect(await containersOf(kiln.data, 'name=needs-flex')).toEqual([]);
    expect((await kiln.kiln('list')).stdout).not.toContain('needs-flex');
  });

  it.each([
    ['a shell', 'python3', '#!/bin/sh\nset -e\npython3 -c 1\n'],
    ['make', 'flex', `#!/bin/sh\nprintf 'all:\\n\\tflex lexer.l\\n' | make -f -\n`],
    ['env', 'python3', '#!/usr/bin/env python3\nprint(1)\n'],
    ['bash', 'autoreconf', '#!/bin/bash\nautoreconf -i || exit\n'],
  ])(
    'and says so nowhere fails where %s does not find one, naming %s and --needs',
    async (who, program, script) => {
      const source = await dkmsSource(`wants-${who.replaceAll(' ', '-')}`, 'PRE_BUILD=pre', {
        pre: script,
      });
      await chmod(join(source, 'pre'), 0o755);
      const { status, stderr } = await kiln.kiln('build', source, '-k', kiln.kernel);
      expect([status, stderr]).toEqual([
        1,
        expect.stringContaining(
          `the build runs ${program}, which is missing from its toolchain; push the source with --needs PACKAGE (the package that has ${program})`,
        ),
      ]);
    },
  );
});
