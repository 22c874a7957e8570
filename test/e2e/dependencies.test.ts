import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import type { BuildView } from '../../services/core/protocol/build.ts';
import { dkmsSource, moduleCode, writeTree } from '../machine/make-source.ts';
import { sharedKiln } from '../machine/shared.ts';

/** BUILD_DEPENDS: order, symbols and headers of what a source is built against. */

const kiln = sharedKiln();
const build = (source: string, ...args: string[]): Promise<BuildView> =>
  kiln.json<BuildView>('build', source, '-k', kiln.kernel, ...args);

describe('a source that depends on another', () => {
  const provider = (name: string, version = '1.0') =>
    writeTree(name, {
      'dkms.conf': `PACKAGE_NAME=${name}\nPACKAGE_VERSION=${version}\nBUILT_MODULE_NAME=${name}\nDEST_MODULE_LOCATION=/extra\n`,
      Kbuild: `obj-m := ${name}.o\n`,
      [`${name}.c`]: moduleCode(
        `int ${name}_answer(void) { return 42; }\nEXPORT_SYMBOL_GPL(${name}_answer);`,
      ),
      [`${name}.h`]: `int ${name}_answer(void);\n`,
    });
  const user = (name: string, on: string) =>
    dkmsSource(name, `BUILD_DEPENDS[0]="${on}"`, {
      Makefile: `obj-m := ${name}.o\nccflags-y := -I$(wildcard /usr/src/${on}-1.0)\n`,
      [`${name}.c`]: `#include <linux/module.h>
#include "${on}.h"
static int __init start(void) { return ${on}_answer() == 42 ? 0 : -1; }
module_init(start);
MODULE_LICENSE("GPL");
`,
    });

  it('is built after it, against its headers and the CRCs of its symbols', async () => {
    await kiln.json('source', 'push', await provider('giver'));
    const made = await build(await user('taker', 'giver'));
    expect(made.dependencies).toHaveLength(1);
    const [on = ''] = made.dependencies;
    expect(await kiln.json<BuildView>('show', on)).toMatchObject({ state: 'succeeded' });
    const modinfo = JSON.stringify(await kiln.json('show', made.id));
    expect(modinfo).toContain('["depends","giver"]');
  });

  it('is not made again while that one’s modules are lost, and is once they are made again', async () => {
    await kiln.json('source', 'push', await provider('lost_giver'));
    const made = await build(await user('lost_taker', 'lost_giver'));
    const [on = ''] = made.dependencies;
    const giver = await kiln.json<BuildView>('show', on);
    const blobOf = (digest: string): string => {
      const hex = digest.slice('sha256:'.length);
      return join(kiln.data, 'blobs', hex.slice(0, 2), hex);
    };
    const forgetUnpacked = (): Promise<void> =>
      rm(join(kiln.data, 'builder', `dependency-${giver.fingerprint.slice('sha256:'.length)}`), {
        recursive: true,
      });
    await rm(blobOf(giver.modules[0]?.unsigned ?? ''));
    await forgetUnpacked();
    const lost = await kiln.kiln('rebuild', made.id);
    expect([lost.status, lost.stderr]).toEqual([
      1,
      expect.stringContaining(
        `the rebuild failed: it is built against lost_giver/1.0, whose modules are not stored any more; make them again first (kiln rebuild ${on})`,
      ),
    ]);
    expect(await kiln.json('rebuild', on)).toMatchObject({ state: 'same' });
    expect(await kiln.json('rebuild', made.id)).toMatchObject({ state: 'same' });
  });

  it('fails with it, saying which', async () => {
    const broken = await dkmsSource('broken-giver', '', { 'broken-giver.c': '#error no\n' });
    await kiln.json('source', 'push', broken);
    const source = await user('sad', 'broken-giver');
    const { status, stderr } = await kiln.kiln('build', source, '-k', kiln.kernel);
    expect([status, stderr]).toEqual([
      1,
      expect.stringMatching(
        /built against broken-giver\/1\.0, whose build [0-9a-f]{24} is failed.*dependency-failed/,
      ),
    ]);
  });

  it('is refused while that is not here, or where they depend on each other', async () => {
    const alone = await kiln.kiln('build', await user('alone', 'nobody-has-it'), '-k', kiln.kernel);
    expect([alone.status, alone.stderr]).toEqual([
      3,
      expect.stringMatching(/no source nobody-has-it here/),
    ]);
    await kiln.json('source', 'push', await user('ring-a', 'ring-b'));
    await kiln.json('source', 'push', await user('ring-b', 'ring-a'));
    const ring = await kiln.kiln('build', 'ring-a', '-k', kiln.kernel);
    expect([ring.status, ring.stderr]).toEqual([
      2,
      expect.stringMatching(/ring-a → ring-b → ring-a/),
    ]);
  });
});
