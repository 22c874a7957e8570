import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { beforeEach, describe, expect, it } from '@jest/globals';
import type { Fetched } from '../../client/install/fetch.ts';
import { openHost, type Host } from '../../client/host/host.ts';
import { planInstall, planLink, type Plan } from '../../client/install/plan.ts';
import { planRemove } from '../../client/install/plan-remove.ts';
import { listReceipts, receiptChange, type Receipt } from '../../client/installed/receipts.ts';
import type { Change } from '../../client/transaction/change.ts';
import { runTransaction } from '../../client/transaction/transaction.ts';
import { digestOf } from '../../services/core/digest.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { mustRun } from '../machine/run.ts';
import { builtView } from '../unit/samples.ts';

const RELEASE = '6.1.0-2-amd64';
const OTHER = '6.1.0-1-amd64';

describe('a plan', () => {
  let host: Host;

  beforeEach(async () => {
    host = await openHost(await freshDirectory('plan'));
    for (const release of [RELEASE, OTHER]) {
      await mkdir(join(host.root, 'lib/modules', release, 'kernel'), { recursive: true });
      await mustRun('depmod', ['-b', host.root, release]);
    }
  });

  const at = (path: string, release = RELEASE): string =>
    join(host.root, 'lib/modules', release, path);
  const lay = async (path: string, text: string): Promise<void> => {
    await mkdir(dirname(at(path)), { recursive: true });
    await writeFile(at(path), text);
  };
  const isThere = (path: string): Promise<boolean> =>
    stat(at(path)).then(
      () => true,
      () => false,
    );
  const receipts = async (): Promise<readonly Receipt[]> => (await listReceipts(host)).receipts;

  /** A build of some modules, each with the bytes of its name and the version. */
  const built = (
    name: string,
    version: string,
    modules: readonly string[],
    release = RELEASE,
  ): Fetched => ({
    build: builtView({
      id: 'b',
      fingerprint: digestOf(`${name} ${version}`),
      source: { digest: digestOf(name), name, version },
      kernel: {
        digest: digestOf(release),
        release,
        arch: 'x86_64',
        compiler: 'gcc',
        vermagic: release,
      },
    }),
    files: [],
    modules: modules.map((module) => ({
      name: module,
      modname: module,
      bytes: Buffer.from(`${module} ${version}`),
    })),
    isSigned: false,
    isCached: true,
    provenance: null,
  });
  const plan = async (fetched: Fetched, standing?: readonly Receipt[]): Promise<Plan> =>
    planInstall(host, fetched, {
      server: 'x',
      signer: null,
      force: false,
      keepDisplaced: true,
      receipts: standing ?? (await receipts()),
    });
  const run = (changes: readonly Change[]): Promise<unknown> =>
    runTransaction(host, {
      title: 'x',
      changes: [...new Map(changes.map((each) => [each.path, each])).values()],
      releases: [],
      images: [],
    });
  const install = async (fetched: Fetched): Promise<unknown> => run((await plan(fetched)).changes);
  const remove = async (name: string): Promise<void> => {
    const all = await receipts();
    for (const each of all) if (each.name === name) await run(await planRemove(host, each, all));
  };

  it('of one source twice in one transaction leaves nothing of the first', async () => {
    const first = await plan(built('a', '1', ['x', 'y']));
    const second = await plan(built('a', '2', ['x']), [first.receipt]);
    await run([...first.changes, ...second.changes]);
    expect([await isThere('updates/kiln/x.ko'), await isThere('updates/kiln/y.ko')]).toEqual([
      true,
      false,
    ]);
  });

  it('keeps one record of what it moved aside, however often it is installed, and puts it back', async () => {
    await lay('extra/x.ko', 'theirs');
    await install(built('a', '1', ['x']));
    await install(built('a', '2', ['x']));
    await lay('extra/x.ko', 'theirs, newer');
    await install(built('a', '3', ['x']));
    expect((await receipts())[0]?.displaced).toHaveLength(1);
    await remove('a');
    expect(await readFile(at('extra/x.ko'), 'utf8')).toBe('theirs, newer');
    await expect(stat(join(host.root, 'var/lib/kiln/displaced'))).rejects.toThrow(/ENOENT/);
  });

  it('finds what was moved aside for a receipt that was lost, and puts it back', async () => {
    await lay('extra/x.ko', 'theirs');
    await install(built('a', '1', ['x']));
    await writeFile(join(host.root, `var/lib/kiln/receipts/${RELEASE}/a.json`), '{');
    await install(built('a', '2', ['x']));
    await remove('a');
    expect(await readFile(at('extra/x.ko'), 'utf8')).toBe('theirs');
    await expect(stat(join(host.root, 'var/lib/kiln/displaced'))).rejects.toThrow(/ENOENT/);
  });

  it('of a removal leaves alone what was put in the place of what was moved aside', async () => {
    await lay('extra/x.ko', 'theirs');
    await install(built('a', '1', ['x']));
    await lay('extra/x.ko', 'theirs, newer');
    await remove('a');
    expect(await readFile(at('extra/x.ko'), 'utf8')).toBe('theirs, newer');
  });

  it('of a removal puts nothing back for a kernel that has gone', async () => {
    await lay('extra/x.ko', 'theirs');
    await install(built('a', '1', ['x']));
    await mustRun('rm', ['-r', at('kernel')]);
    await remove('a');
    expect(await isThere('extra/x.ko')).toBe(false);
  });

  it('takes two names of one module for one', async () => {
    await install(built('a', '1', ['my-module']));
    await expect(plan(built('b', '1', ['my_module']))).rejects.toThrow(
      /my-module\.ko is already installed from a\/1/,
    );
  });

  const planLinkOf = (origin: Receipt, all: readonly Receipt[]): Plan =>
    planLink(origin, RELEASE, digestOf('symbols'), all);

  it('of links leaves nothing of earlier ones, and takes no other source’s place', async () => {
    const both = await plan(built('a', '1', ['x', 'y'], OTHER));
    await run(both.changes);
    await run(planLinkOf(both.receipt, await receipts()).changes);
    expect(await isThere('weak-updates/kiln/y.ko')).toBe(true);
    const one = await plan(built('a', '2', ['x'], OTHER));
    await run(one.changes);
    await run(planLinkOf(one.receipt, await receipts()).changes);
    expect(await isThere('weak-updates/kiln/x.ko')).toBe(true);
    await expect(readFile(at('weak-updates/kiln/y.ko'))).rejects.toThrow(/ENOENT/);
    const rival = await plan(built('b', '1', ['x'], OTHER), []);
    const all = await receipts();
    expect(() => planLinkOf(rival.receipt, all)).toThrow(/already installed from a/);
  });

  it.each([
    [{ modules: [{ path: '../../../../etc/passwd' }] }],
    [{ modules: [{ path: '/etc/passwd' }] }],
    [{ displaced: [{ path: 'extra/x.ko', kept: 'etc/shadow' }] }],
    [
      {
        displaced: [{ path: 'extra/x.ko', kept: 'var/lib/kiln/displaced/../../../../etc/shadow' }],
      },
    ],
    [{ displaced: [{ path: '../x.ko', kept: 'var/lib/kiln/displaced/x.ko' }] }],
    [{ name: 'b' }],
    [{ release: OTHER }],
    [{ linkedFrom: '../..' }],
  ])('does not believe a receipt that says %j', async (wrong) => {
    const { receipt } = await plan(built('a', '1', ['x']));
    const [module] = receipt.modules;
    const { path } = receiptChange(receipt);
    const said = {
      ...receipt,
      ...wrong,
      modules: ('modules' in wrong ? wrong.modules : [{}]).map((each) => ({ ...module, ...each })),
    };
    await mkdir(dirname(join(host.root, path)), { recursive: true });
    await writeFile(join(host.root, path), JSON.stringify(said));
    // What else lies there is no receipt, and does no harm.
    await writeFile(join(host.root, 'var/lib/kiln/receipts/stray'), '');
    expect(await listReceipts(host)).toEqual({
      receipts: [],
      damaged: [join(host.root, path)],
    });
  });
});
