import {
  access,
  copyFile,
  mkdir,
  readFile,
  readlink,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { beforeEach, describe, expect, it } from '@jest/globals';
import type { Context } from '../../client/command.ts';
import { verify } from '../../client/commands/verify.ts';
import { openHost, type Host } from '../../client/host/host.ts';
import { removeAll } from '../../client/install/remove.ts';
import { listReceipts } from '../../client/installed/receipts.ts';
import { standings } from '../../client/installed/standing.ts';
import { verifyReceipt } from '../../client/installed/verify.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { mustRun } from '../machine/run.ts';
import { debianKernel } from '../unit/samples.ts';
import { built, installBuilt } from './built.ts';

const { release } = debianKernel;
const OTHER = '6.1.0-55-amd64';

/**
 * Does to one other kernel what Enterprise Linux's `weak-modules` does to those whose symbols fit, and writes down how it was called. Debian
 * has no package of the real one.
 */
const LINKER = `#!/bin/busybox sh
echo "$@" >>/called
/bin/busybox cat >/modules
/bin/busybox cat /modules >>/called
/bin/busybox test ! -e /refuse || { echo 'weak-modules: this tool requires a dracut-enabled kernel'; exit 1; }
home=/lib/modules/${OTHER}/weak-updates/kiln
/bin/busybox mkdir -p $home
while read module; do
  link=$home/$(/bin/busybox basename $module)
  case $1 in
  --add-modules) /bin/busybox ln -sf $module $link ;;
  --remove-modules) /bin/busybox rm -f $link ;;
  esac
done </modules
`;

/** The host's own depmod, which writes down for which kernel it was called. */
const INDEXER = `#!/bin/busybox sh
echo "$@" >>/indexed
`;

describe('a host with weak-modules', () => {
  let host: Host;
  let said: string[];
  let context: Context;

  beforeEach(async () => {
    host = await openHost(await freshDirectory('weak-modules'), true);
    for (const each of [release, OTHER]) {
      await mkdir(join(host.root, 'lib/modules', each, 'kernel'), { recursive: true });
      await mustRun('depmod', ['-b', host.root, each]);
    }
    for (const directory of ['bin', 'usr/sbin'])
      await mkdir(join(host.root, directory), { recursive: true });
    await copyFile('/bin/busybox', join(host.root, 'bin/busybox'));
    await writeFile(join(host.root, 'usr/sbin/weak-modules'), LINKER, { mode: 0o755 });
    await writeFile(join(host.root, 'usr/sbin/depmod'), INDEXER, { mode: 0o755 });
    said = [];
    context = {
      config: { weakUpdates: true },
      progress: { say: (text: string) => said.push(text), step: () => {}, done: () => {} },
    } as unknown as Context;
  });

  const install = (version: string, mayLink = true): Promise<void> =>
    installBuilt(context, host, version, mayLink);
  const remove = async (): Promise<void> => {
    const { receipts } = await listReceipts(host);
    const meant = receipts.filter((each) => each.release === release);
    await removeAll(context, host, meant, { forget: [], initramfs: false });
  };
  const inModules = (...path: string[]): string => join(host.root, 'lib/modules', ...path);
  const link = (): Promise<string> => readlink(inModules(OTHER, 'weak-updates/kiln/hello.ko'));
  const called = (): Promise<string> => readFile(join(host.root, 'called'), 'utf8');

  it('tells it once what came, and takes its links for its own', async () => {
    await install('1.0');
    expect(await called()).toBe(
      `--add-modules --no-initramfs\n/lib/modules/${release}/updates/kiln/hello.ko\n`,
    );
    expect(await link()).toBe(`/lib/modules/${release}/updates/kiln/hello.ko`);
    const { receipts } = await listReceipts(host);
    expect(receipts).toMatchObject([
      { release, linkedFrom: null },
      { release: OTHER, linkedFrom: release, provenWith: null },
    ]);
    expect(said).toEqual([]);
  });

  it('tells it what went: no link is left that leads nowhere', async () => {
    await install('1.0');
    await remove();
    expect(await called()).toContain('--remove-modules --no-initramfs\n');
    await expect(link()).rejects.toThrow(/ENOENT/);
    expect((await listReceipts(host)).receipts).toEqual([]);
  });

  it('shows what it linked, and has it gone with the link', async () => {
    await install('1.0');
    expect(await standings(host)).toMatchObject([
      { release: OTHER, name: 'hello', state: 'linked', receipt: { linkedFrom: release } },
      { release, name: 'hello', state: 'installed' },
    ]);
    const { receipts } = await listReceipts(host);
    for (const receipt of receipts)
      expect(
        await verifyReceipt(host, receipt, receipts, () =>
          Promise.reject(new Error('it is unsigned')),
        ),
      ).toMatchObject([{ problem: null }]);
    await rm(inModules(OTHER, 'weak-updates/kiln/hello.ko'));
    expect(await standings(host)).toMatchObject([{ release }]);
  });

  it('does not tell it of a source that says NO_WEAK_MODULES', async () => {
    await install('1.0', false);
    await expect(called()).rejects.toThrow(/ENOENT/);
    expect((await listReceipts(host)).receipts).toMatchObject([{ release }]);
  });

  it('says what it said where it fails; the modules are in place', async () => {
    await writeFile(join(host.root, 'refuse'), '');
    await install('1.0');
    expect(said).toEqual([
      'warning: weak-modules --add-modules failed (weak-modules: this tool requires a dracut-enabled kernel); what was asked for is in place',
    ]);
    expect((await listReceipts(host)).receipts).toMatchObject([{ release }]);
  });

  it('has the host index a kernel whose links differ: that weak-modules could not do it does not show', async () => {
    await install('1.0');
    expect(await readFile(join(host.root, 'indexed'), 'utf8')).toBe(`${OTHER}\n`);
  });

  it('says which kernel lost its link, where it has no new one', async () => {
    await install('1.0');
    await install('1.1');
    expect(said).toEqual([]);
    await writeFile(join(host.root, 'refuse'), '');
    await install('1.2');
    expect(said).toEqual([
      expect.stringContaining('warning: weak-modules --add-modules failed'),
      `hello for ${OTHER} was linked to what is replaced now; kiln autoinstall -k ${OTHER} gets it again`,
    ]);
  });

  /** What it does where both kernels have a module of their own: a link beside each. */
  const linkBesideOwn = async (): Promise<void> => {
    await rm(inModules(OTHER, 'weak-updates'), { recursive: true });
    await mkdir(inModules(OTHER, 'updates'));
    await mustRun('cp', ['-a', inModules(release, 'updates/kiln'), inModules(OTHER, 'updates')]);
    const receipts = join(host.root, 'var/lib/kiln/receipts');
    const receipt = await readFile(join(receipts, release, 'hello.json'), 'utf8');
    await mkdir(join(receipts, OTHER));
    await writeFile(
      join(receipts, OTHER, 'hello.json'),
      receipt.replace(`"release": "${release}"`, `"release": "${OTHER}"`),
    );
    await mkdir(inModules(release, 'weak-updates/kiln'), { recursive: true });
    await symlink(
      `../../../${OTHER}/updates/kiln/hello.ko`,
      inModules(release, 'weak-updates/kiln/hello.ko'),
    );
  };

  it('leaves its link to a module of Kiln’s be, beside a module of the kernel’s own', async () => {
    await install('1.0');
    await linkBesideOwn();
    await install('1.0');
    const { receipts } = await listReceipts(host);
    expect(receipts).toMatchObject([
      { release: OTHER, linkedFrom: null },
      { release, linkedFrom: null, displaced: [] },
    ]);
    await remove();
    expect((await listReceipts(host)).receipts).toMatchObject([
      { release: OTHER, linkedFrom: null },
      { release, linkedFrom: OTHER },
    ]);
  });

  it('does not call such a link a stranger', async () => {
    await install('1.0');
    await linkBesideOwn();
    await mkdir(inModules(release, 'extra'));
    await writeFile(inModules(release, 'extra/stranger.ko'), '');
    let answered: unknown = null;
    await verify.run({
      ...context,
      args: ['nothing'],
      flag: () => true,
      host: () => Promise.resolve(host),
      print: (_, answer) => (answered = answer),
    });
    expect(answered).toMatchObject({ others: [inModules(release, 'extra/stranger.ko')] });
  });

  it('puts another’s link that was in the way back as the link it was, if it leads somewhere', async () => {
    const target = `/lib/modules/${OTHER}/extra/foo/hello.ko`;
    const place = inModules(release, 'weak-updates/foo/hello.ko');
    for (const file of [join(host.root, target), place])
      await mkdir(dirname(file), { recursive: true });
    await writeFile(join(host.root, target), built('0.9').bytes);
    await symlink(target, place);
    await install('1.0');
    await expect(readlink(place)).rejects.toThrow(/ENOENT/);
    await remove();
    expect(await readlink(place)).toBe(target);
    await install('1.0');
    await rm(join(host.root, target));
    await remove();
    await expect(readlink(place)).rejects.toThrow(/ENOENT/);
    await expect(access(join(host.root, 'var/lib/kiln/displaced'))).rejects.toThrow(/ENOENT/);
  });

  it('misses a link of Kiln’s own that it has dropped: autoinstall gets it again', async () => {
    await install('1.0');
    const linked = (await listReceipts(host)).receipts.find((each) => each.release === OTHER);
    const receipts = join(host.root, 'var/lib/kiln/receipts', OTHER);
    await mkdir(receipts);
    await writeFile(join(receipts, 'hello.json'), JSON.stringify(linked));
    await rm(inModules(OTHER, 'weak-updates/kiln/hello.ko'));
    expect(await standings(host)).toMatchObject([
      { release: OTHER, state: 'missing', because: ['weak-updates/kiln/hello.ko is missing'] },
      { release, state: 'installed' },
    ]);
  });
});
