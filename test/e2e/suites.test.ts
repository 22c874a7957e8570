import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { connectDocker } from '../../services/builder/docker.ts';
import type { Digest } from '../../services/core/digest.ts';
import type { BuildView } from '../../services/core/protocol/build.ts';
import { bareMake } from '../machine/bare-make.ts';
import {
  debianHeaders,
  debianPackage,
  debianSource,
  headerPackages,
  newestRelease,
  originOf,
  type Series,
} from '../machine/debian.ts';
import { pinToolchain, startKiln, type KilnService } from '../machine/kiln-service.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { madeToolchain } from '../machine/places.ts';
import { mustRun } from '../machine/run.ts';
import { IS_THOROUGH } from '../machine/thorough.ts';

/** A Debian that is not this machine's: a kernel of its, and the toolchain that is that kernel's own. */
interface Suite {
  readonly series: Series;
  readonly toolchain: string;
  /** What Debian 12's toolchain lacks for that kernel, in Kiln's words. */
  readonly lacking: RegExp;
}
const ALL_SUITES: readonly (readonly [string, Suite])[] = [
  [
    'Debian 11',
    {
      series: '5.10',
      toolchain: 'debian-11-gcc-10',
      lacking:
        /built with "gcc-10 .*Nearest: debian-12-gcc-12: compiler should be gcc-10 .*linker should be GNU ld 23502, has GNU ld 24000; assembler should be .*--waive compiler,linker,assembler/,
    },
  ],
  [
    'Debian 13',
    {
      series: '6.12 of Debian 13',
      toolchain: 'debian-13-gcc-14',
      lacking:
        /built with "x86_64-linux-gnu-gcc-14 .*Nearest: debian-12-gcc-12: the headers’ own programs \(modpost\) need GLIBC 2\.\d+, it has 2\.36; compiler should be .*linker should be GNU ld 24400, .*pahole should be pahole 130, /,
    },
  ],
];

/** One of them, unless it is thorough. */
const SUITES = IS_THOROUGH ? ALL_SUITES : ALL_SUITES.slice(-1);

/** The newest kernel of a suite, its headers pushed as the packages they are, and its v4l2loopback. */
interface Pushed {
  readonly release: string;
  readonly headers: string;
  readonly source: string;
  readonly name: string;
  readonly version: string;
}

let kiln: KilnService;
const pushed = new Map<Suite, Pushed>();
const pushedOf = (suite: Suite): Pushed & { readonly wish: readonly string[] } => {
  const of = pushed.get(suite);
  if (of === undefined) throw new Error(`nothing of ${suite.series} was pushed`);
  return { ...of, wish: [`${of.name}/${of.version}`, '-k', of.release] };
};
const push = async ({ series }: Suite): Promise<Pushed> => {
  const origin = originOf(series);
  const release = await newestRelease('amd64', series);
  const packages = await headerPackages(release, origin);
  const debs = await Promise.all(packages.map((name) => debianPackage(name, origin)));
  await kiln.json('kernel', 'push', ...debs);
  const { name, version } = await kiln.json<{ name: string; version: string }>(
    'source',
    'push',
    await debianPackage('v4l2loopback-dkms', origin),
  );
  return {
    release,
    headers: await debianHeaders(release, origin),
    source: await debianSource('v4l2loopback-dkms', origin),
    name,
    version,
  };
};
beforeAll(async () => {
  kiln = await startKiln(await freshDirectory('suites'), { KILN_LOG_LEVEL: 'warn' });
  await pinToolchain(kiln);
  for (const [, suite] of SUITES) pushed.set(suite, await push(suite));
});
afterAll(async () => {
  await kiln.stop();
});

describe('for another Debian’s kernel', () => {
  it.each(SUITES)(
    '%s: Debian 12’s toolchain is refused, and what it lacks named',
    async (_, suite) => {
      const { status, stderr } = await kiln.kiln('build', ...pushedOf(suite).wish);
      expect([status, stderr]).toEqual([2, expect.stringMatching(suite.lacking)]);
    },
  );

  describe('with every Debian’s toolchain pinned', () => {
    const toolchains = new Map<Suite, string>();
    beforeAll(async () => {
      for (const [, suite] of SUITES)
        toolchains.set(suite, await pinToolchain(kiln, madeToolchain(suite.toolchain)));
    });

    it.each(SUITES)('%s: its own is chosen, and makes what bare make does', async (_, suite) => {
      const { wish, ...made } = pushedOf(suite);
      const digest = toolchains.get(suite) as Digest;
      const output = await freshDirectory('out');
      const build = await kiln.json<BuildView>('build', ...wish, '-o', output);
      expect(build).toMatchObject({
        state: 'succeeded',
        toolchain: { digest, name: suite.toolchain },
        inputs: { waived: [] },
      });
      const image = (await connectDocker('/var/run/docker.sock').findImage(digest)) ?? '';
      const unsigned = Object.fromEntries(build.modules.map((each) => [each.name, each.unsigned]));
      expect(Object.keys(unsigned)).toEqual(['v4l2loopback']);
      expect(unsigned).toEqual(await bareMake({ ...made, image }));

      // It is signed with the hash that the kernel's own modules are.
      const configFile = `usr/src/linux-headers-${made.release}/.config`;
      const config = await readFile(join(made.headers, configFile), 'utf8');
      const hash = /^CONFIG_MODULE_SIG_HASH="(.*)"$/m.exec(config)?.[1];
      expect(build.signature).toMatchObject({ kind: 'signed', hash });
      const signed = join(output, 'v4l2loopback.ko');
      expect(await mustRun('modinfo', ['-F', 'sig_hashalgo', signed])).toBe(`${hash}\n`);
    });
  });
});
