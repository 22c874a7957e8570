import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { readElf } from '../../services/core/format/elf.ts';
import type { BuildTicket, BuildView, CreateBuild } from '../../services/core/protocol/build.ts';
import type { SignerView } from '../../services/core/protocol/fleet.ts';
import { startLyingService, type LyingService } from '../machine/lying-service.ts';
import { dkmsSource, freshDirectory, moduleCode } from '../machine/make-source.ts';
import { CLIENT } from '../machine/places.ts';
import { run, type Ran } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';
import { makeSmallRoot, stateOf } from '../machine/small-root.ts';

describe('a service that lies to a host', () => {
  const kiln = sharedKiln();
  let lying: LyingService;
  let certificate: string;
  let top: BuildView;
  const builds = new Map<string, BuildView>();

  const push = async (name: string, version: string, conf = ''): Promise<void> => {
    const source = await dkmsSource(name, '', {
      'dkms.conf': `PACKAGE_NAME=${name}\nPACKAGE_VERSION=${version}\nBUILT_MODULE_NAME[0]=${name}\nDEST_MODULE_LOCATION[0]=/updates\n${conf}\n`,
      [`${name}.c`]: moduleCode(`MODULE_VERSION("${version}");`),
    });
    await kiln.json('source', 'push', source);
  };

  beforeAll(async () => {
    lying = await startLyingService(kiln.url);
    const [signer] = await kiln.json<SignerView[]>('signer', 'list');
    certificate = join(await freshDirectory('signer'), 'signer.pem');
    await writeFile(certificate, signer?.certificate ?? '');
    for (const version of ['1.0', '2.0']) await push('lied', version, 'NO_WEAK_MODULES=yes');
    await push('lied-base', '1.0');
    await push('lied-top', '1.0', 'BUILD_DEPENDS[0]=lied-base');
    for (const name of ['lied/1.0', 'lied/2.0', 'lied-top'])
      builds.set(name, await kiln.json<BuildView>('build', name, '-k', kiln.kernel));
    top = builds.get('lied-top') as BuildView;
  });
  afterAll(() => lying.close());

  const on = (root: string, command: string, ...args: string[]): Promise<Ran> =>
    run(
      CLIENT,
      [command, ...args, '--root', root, '--server', lying.url, '--certificate', certificate],
      {
        env: {
          ...process.env,
          KILN_TOKEN_FILE: join(kiln.data, 'admin.token'),
          KILN_CONFIG: join(root, 'no.config'),
        },
      },
    );
  const told = (root: string, name: string): Promise<Ran> =>
    on(root, 'install', name, '-k', kiln.release);

  it('and gives an old version, signed once, as the newest, does not get it installed', async () => {
    const root = await makeSmallRoot(kiln.release);
    expect(await told(root, 'lied')).toMatchObject({ status: 0 });
    const before = await stateOf(root);
    const old = (asked: CreateBuild): CreateBuild =>
      'name' in asked.source && asked.source.name === 'lied'
        ? { ...asked, source: { name: 'lied', version: '1.0' } }
        : asked;
    lying.lie({
      asks: (path, json: CreateBuild & { wishes?: CreateBuild[] }) =>
        path === '/v1/builds'
          ? old(json)
          : path === '/v1/resolve'
            ? { wishes: json.wishes?.map(old) }
            : json,
    });
    expect(await told(root, 'lied')).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(
        /lied\/1\.0 is older than lied\/2\.0, which is here .* \(--allow-downgrade does\)/,
      ),
    });
    expect((await on(root, 'autoinstall')).stderr).toMatch(
      /the service has lied\/1\.0, which is older than 2\.0 here; kiln autoinstall --allow-downgrade/,
    );
    expect((await on(root, 'status')).stdout).toMatch(/lied\/2\.0 +installed .*which is older/);
    expect(laid(await stateOf(root))).toEqual(laid(before));
    expect(await on(root, 'autoinstall', '--allow-downgrade')).toMatchObject({ status: 0 });
    lying.lie(null);
    expect((await on(root, 'status')).stdout).toMatch(/lied\/1\.0 +stale/);
  });

  const word = (what: string) =>
    new RegExp(`what the service says of build .* is not what was signed \\(${what}\\)`);
  it.each<[string, string, (view: BuildView) => BuildView, RegExp]>([
    [
      'a module may be linked to other kernels, against its source’s word',
      'lied',
      (view) => ({ ...view, recipe: { ...view.recipe, mayLink: true } }),
      word('recipe'),
    ],
    [
      'it needs nothing that it was built against',
      'lied-top',
      (view) => ({ ...view, dependencies: [] }),
      word('dependencies'),
    ],
    [
      'it needs a module more',
      'lied',
      (view) => ({ ...view, dependencies: [builds.get('lied/1.0')?.id ?? ''] }),
      word('dependencies'),
    ],
    [
      'it was built with other settings',
      'lied',
      (view) => ({ ...view, inputs: { ...view.inputs, settings: {}, waived: ['pahole'] } }),
      word('inputs'),
    ],
    [
      'it is another version',
      'lied',
      (view) => ({ ...view, source: { ...view.source, version: '3.0' } }),
      word('source'),
    ],
    [
      'its toolchain was another',
      'lied',
      (view) => ({
        ...view,
        toolchain: { ...view.toolchain, digest: view.fingerprint },
      }),
      word('toolchain'),
    ],
    [
      'it has a module more, that was signed for another build',
      'lied-top',
      (view) => ({
        ...view,
        modules: [...view.modules, ...(builds.get('lied/1.0')?.modules ?? [])],
      }),
      word('modules'),
    ],
    [
      'another build’s provenance is its own',
      'lied',
      (view) => ({ ...view, attestation: builds.get('lied/1.0')?.attestation ?? null }),
      word('fingerprint'),
    ],
    [
      'it is unsigned',
      'lied',
      (view) => ({ ...view, signature: { kind: 'unsigned', reason: 'trust me' } }),
      /not signed: trust me/,
    ],
  ])('that %s, changes nothing on it', async (_, name, change, refusal) => {
    const root = await makeSmallRoot(kiln.release);
    const before = await stateOf(root);
    lying.lie({
      answers: (path, json: BuildTicket) =>
        path === '/v1/builds' ? { ...json, build: change(json.build) } : json,
    });
    expect(await told(root, name)).toMatchObject({
      status: 6,
      stderr: expect.stringMatching(refusal),
    });
    lying.lie(null);
    expect(laid(await stateOf(root))).toEqual(laid(before));
  });

  it('and no longer tells what it has withdrawn, does not make a host forget it', async () => {
    await push('lied-about', '1.0');
    const root = await makeSmallRoot(kiln.release);
    expect(await told(root, 'lied-about')).toMatchObject({ status: 0 });
    await kiln.json('withdraw', 'source', 'lied-about/1.0', '--reason', 'it eats disks');
    expect(await on(root, 'verify')).toMatchObject({ status: 6 });
    lying.lie({
      answers: (path, json: unknown) =>
        path === '/v1/withdrawals' ? { items: [], next: null } : json,
    });
    const why =
      /the source lied-about\/1\.0 was withdrawn: it eats disks \(the service no longer says so; .*--allow-withdrawn/;
    for (const time of ['first', 'second'])
      expect({ time, ...(await on(root, 'verify')) }).toMatchObject({
        status: 6,
        stderr: expect.stringMatching(why),
      });
    lying.lie(null);
    // A service that gives it out again looks to the host just as one whose admin has taken the withdrawal back.
    await kiln.json('withdraw', 'source', 'lied-about/1.0', '--undo');
    expect((await on(root, 'status')).stdout).toMatch(/lied-about\/1\.0 +withdrawn/);
    expect(await told(root, 'lied-about')).toMatchObject({
      status: 6,
      stderr: expect.stringMatching(why),
    });
    expect(await on(root, 'autoinstall')).toMatchObject({
      status: 6,
      stderr: expect.stringMatching(why),
    });

    const allowed = ['lied-about', '-k', kiln.release, '--allow-withdrawn'];
    expect(await on(root, 'install', ...allowed)).toMatchObject({ status: 0 });
    expect(await on(root, 'verify')).toMatchObject({ status: 0 });
    expect((await on(root, 'status')).stdout).toMatch(/lied-about\/1\.0 +installed/);
  });

  it('and gives what goes along from another build, does not get it installed', async () => {
    const root = await makeSmallRoot(kiln.release);
    const other = builds.get('lied/1.0');
    lying.lie({
      answers: (path, json: BuildView) =>
        path === `/v1/builds/${top.dependencies[0]}` ? { ...other, id: json.id } : json,
    });
    expect(await told(root, 'lied-top')).toMatchObject({
      status: 6,
      stderr: expect.stringMatching(/another build than .* was sent for the dependency lied-base/),
    });
    lying.lie(null);
    expect(await told(root, 'lied-top')).toMatchObject({ status: 0 });
  });

  it('and gives modules of another kernel of the same release, does not get them installed', async () => {
    const root = await makeSmallRoot(kiln.release);
    await mkdir(join(root, 'boot'));
    await writeFile(join(root, 'boot', `config-${kiln.release}`), 'CONFIG_OTHER=y\n');
    // The service would say by itself that it has no such kernel.
    lying.lie({
      asks: (path, json: CreateBuild & { kernel: { options?: string } }) => {
        if (path !== '/v1/builds') return json;
        const { options: _, ...kernel } = json.kernel;
        return { ...json, kernel };
      },
    });
    expect(await told(root, 'lied')).toMatchObject({
      status: 6,
      stderr: expect.stringMatching(/its configuration is not that of \/boot\/config-/),
    });
    lying.lie(null);

    const other = await makeSmallRoot(kiln.release);
    const home = join(other, 'lib/modules', kiln.release, 'kernel');
    for (const path of await readdir(home, { recursive: true }))
      if (path.endsWith('.ko')) await changeLayout(join(home, path));
    expect(await told(other, 'lied')).toMatchObject({
      status: 6,
      stderr: expect.stringMatching(
        /other versions \(CRCs\) of module_layout; nothing was installed/,
      ),
    });
  });
});

/** What lies in a root's module directories. */
const laid = (state: Readonly<Record<string, string>>): Readonly<Record<string, string>> =>
  Object.fromEntries(Object.entries(state).filter(([path]) => path.startsWith('lib/')));

/** Gives a module another CRC for `module_layout`, as a kernel of another configuration has. */
const changeLayout = async (file: string): Promise<void> => {
  const bytes = await readFile(file);
  const elf = readElf(bytes);
  const table = elf.find('__versions');
  if (table === null) throw new Error(`${file} has no CRCs`);
  for (let at = 0; at < table.size; at += 64)
    if (elf.text(table, at + 8) === 'module_layout') bytes.writeUInt32LE(0x1234, table.offset + at);
  await writeFile(file, bytes);
};
