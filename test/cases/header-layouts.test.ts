import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { connectDocker } from '../../services/builder/docker.ts';
import type { Digest } from '../../services/core/digest.ts';
import type { BuildView } from '../../services/core/protocol/build.ts';
import type { KernelView } from '../../services/core/protocol/kernel.ts';
import { bareMake } from '../machine/bare-make.ts';
import { fewHeaders } from '../machine/few-headers.ts';
import { LAYOUTS, packLaid, type LaidHeaders } from '../machine/header-layouts.ts';
import { dkmsSource, freshDirectory, moduleCode } from '../machine/make-source.ts';
import { mustRun } from '../machine/run.ts';
import { IS_THOROUGH } from '../machine/thorough.ts';
import { sharedKiln } from '../machine/shared.ts';

type Pushed = KernelView & { readonly sent: number };

const kiln = sharedKiln();
const push = (...args: string[]): Promise<Pushed> => kiln.json<Pushed>('kernel', 'push', ...args);
const refusal = async (...args: string[]): Promise<string> => {
  const { status, stderr } = await kiln.kiln('kernel', 'push', '-q', ...args);
  expect(status).toBe(2);
  return stderr;
};

/** A tarball of directories, each by its own name below another. */
const tarball = async (from: string, ...names: readonly string[]): Promise<string> => {
  const file = join(await freshDirectory('tarball'), 'headers.tar.gz');
  await mustRun('tar', ['-C', from, '-czf', file, ...names]);
  return file;
};

/** A module into which the headers' own paths go, where they are not taken off. */
const CODE = moduleCode(`#include <linux/dma-mapping.h>
dma_addr_t map_one(struct device *dev, void *from);
dma_addr_t map_one(struct device *dev, void *from) { return dma_map_single(dev, from, 8, DMA_TO_DEVICE); }
`);

const laid = new Map<string, LaidHeaders>();
const laidAs = async (name: string): Promise<LaidHeaders> => {
  const headers =
    laid.get(name) ?? (await LAYOUTS[name]?.(await fewHeaders(kiln.release), kiln.release));
  if (headers === undefined) throw new Error(name);
  laid.set(name, headers);
  return headers;
};

/** A distribution of each family of layouts, unless it is thorough. */
const TRIED = IS_THOROUGH ? Object.keys(LAYOUTS) : Object.keys(LAYOUTS).slice(0, 2);

describe.each(TRIED)('the headers of %s', (name) => {
  let headers: LaidHeaders;
  let pushed: Pushed;
  beforeAll(async () => {
    headers = await laidAs(name);
    pushed = await push('--root', headers.root, '-k', headers.release);
  });

  it('are one kernel from their host, a directory, their packages and a tarball', async () => {
    expect(pushed.release).toBe(headers.release);
    const same = { digest: pushed.digest, sent: 0 };
    expect(await push(join(headers.root, headers.home))).toMatchObject(same);
    const packages = await Promise.all(headers.packages.map((each) => packLaid(headers, each)));
    expect((await push(...packages)).digest).toBe(pushed.digest);
    const parts = headers.packages.flat().filter((part) => part !== 'usr/src');
    expect((await push(await tarball(headers.root, ...parts))).digest).toBe(pushed.digest);
    if (parts.every((part) => part.startsWith('usr/src/'))) {
      const names = parts.map((part) => part.slice('usr/src/'.length));
      const beside = await tarball(join(headers.root, 'usr/src'), ...names);
      expect((await push(beside)).release).toBe(headers.release);
    }
  });

  it('give the modules that bare make gives with them', async () => {
    const source = await dkmsSource('laid', '', { 'laid.c': CODE });
    const made = await kiln.json<BuildView>('build', source, '-k', pushed.digest);
    const image = await connectDocker('/var/run/docker.sock').findImage(kiln.toolchain as Digest);
    expect(Object.fromEntries(made.modules.map((each) => [each.name, each.unsigned]))).toEqual(
      await bareMake({
        source,
        name: 'laid',
        version: '1.0',
        release: headers.release,
        headers: headers.root,
        home: headers.home,
        image: image ?? '',
      }),
    );
  });
});

describe('headers of which a part is missing', () => {
  const ROOT = 'usr/src/linux-hwe-6.8-headers-6.8.0-40';

  it('are refused with the name of that part, whatever the way in', async () => {
    const headers = await laidAs('Ubuntu’s HWE kernels');
    const { root, packages } = headers;
    const [flavour = []] = packages;
    const words = new RegExp(
      `the headers’ links \\S+.* and \\d+ more lead to /${ROOT}, which is not among them; send both together`,
    );
    expect(await refusal(await packLaid(headers, flavour))).toMatch(words);
    expect(await refusal(await tarball(root, ...flavour))).toMatch(words);
    const alone = await freshDirectory('alone');
    await mkdir(join(alone, 'usr/src'), { recursive: true });
    await mustRun('cp', ['-a', join(root, flavour[0] ?? ''), join(alone, 'usr/src')]);
    expect(await refusal(alone)).toMatch(words);
    const [home = ''] = await readdir(join(alone, 'usr/src'));
    expect(await refusal(join(alone, 'usr/src', home))).toMatch(words);
    expect(await refusal(await tarball(join(alone, 'usr/src', home), '.'))).toMatch(
      /link "\S+" leads out of the tree, to "(\.\.\/)+linux-hwe-6\.8-headers-6\.8\.0-40\/\S+"/,
    );
  });

  it('are refused where a hand-over is relative, too', async () => {
    const { root, packages } = await laidAs('openSUSE');
    expect(await refusal(await tarball(root, packages[0]?.[0] ?? ''))).toMatch(
      /the headers’ Makefile hands over to \/usr\/src\/linux-6\.4\.0-150600\.23\.42, which is not among them/,
    );
  });

  it('are taken where only sources in Rust need it, and it is said', async () => {
    const { root, release } = await laidAs('Ubuntu’s HWE kernels');
    const { stdout } = await kiln.kiln('kernel', 'push', '--root', root, '-k', release);
    expect(stdout).toContain(
      `without /usr/src/linux-lib-rust-${release}, which sources in Rust need`,
    );
  });
});

describe('a kernel that somebody built outside its source', () => {
  it('is pushed whole where the way from one to the other is relative', async () => {
    const { root, packages } = await laidAs('openSUSE');
    const home = await freshDirectory('dev');
    const [[built = ''] = [], [source = ''] = []] = packages;
    await mustRun('cp', ['-a', join(root, source), join(home, 'linux')]);
    await mustRun('cp', ['-a', join(root, built), join(home, 'out')]);
    await writeFile(join(home, 'out/Makefile'), 'include ../linux/Makefile\n');
    const { digest, sourceDirectory } = await push(join(home, 'out'));
    expect(sourceDirectory).toBeNull();
    const made = await kiln.json<BuildView>('build', await dkmsSource('own', ''), '-k', digest);
    expect(made.modules.map(({ name }) => name)).toEqual(['own']);
  });
});
