import { mkdir, readFile, readlink, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { copyHeaders } from '../machine/change-headers.ts';
import { fewHeaders } from '../machine/few-headers.ts';
import { debianHeaders, releasesOf } from '../machine/debian.ts';
import { pinToolchain, startKiln, type KilnService } from '../machine/kiln-service.ts';
import { dkmsSource, freshDirectory, moduleCode } from '../machine/make-source.ts';
import { CLIENT } from '../machine/places.ts';
import { mustRun, run, type Ran } from '../machine/run.ts';
import { addKernel, makeSmallRoot } from '../machine/small-root.ts';

interface Row {
  readonly name: string;
  readonly release: string;
  readonly state: string;
  readonly because: readonly string[];
  readonly since: number | null;
}

/** A host's life through kernels, headers and versions that come and go; every word of it through the client. */
describe('a host whose kernels change', () => {
  let kiln: KilnService;
  let [older, newer] = ['', ''];
  let root: string;
  let config: string;

  const on = (...args: string[]): Promise<Ran> =>
    run(CLIENT, [...args, '--root', root, '--run-programs-of-root', '-q'], {
      env: { ...process.env, KILN_CONFIG: config },
    });
  const must = async (...args: string[]): Promise<string> => {
    const { status, stdout, stderr } = await on(...args);
    expect({ args, status, stderr }).toEqual({ args, status: 0, stderr: '' });
    return stdout;
  };
  const rows = async (...args: string[]): Promise<readonly Row[]> =>
    (JSON.parse(await must('status', '--json', ...args)) as { modules: readonly Row[] }).modules;
  const stateOf = async (name: string, release: string): Promise<Row | undefined> =>
    (await rows()).find((row) => row.name === name && row.release === release);
  const configure = (...lines: string[]): Promise<void> =>
    writeFile(
      config,
      [
        `server = ${kiln.url}`,
        `token-file = ${join(kiln.data, 'admin.token')}`,
        `certificate = ${join(kiln.data, 'pinned.pem')}`,
        ...lines,
      ].join('\n'),
    );
  const push = async (name: string, conf = '', files: Readonly<Record<string, string>> = {}) =>
    kiln.json('source', 'push', await dkmsSource(name, conf, files));

  beforeAll(async () => {
    [newer = '', older = ''] = await releasesOf('amd64');
    const data = await freshDirectory('fleet');
    kiln = await startKiln(data, { KILN_CONCURRENCY: '2', KILN_LOG_LEVEL: 'warn' });
    await pinToolchain(kiln);
    for (const release of [older, newer])
      await kiln.json('kernel', 'push', await fewHeaders(release));
    config = join(data, 'host.config');
    await mustRun(
      CLIENT,
      ['setup', kiln.url, '--token-file', join(data, 'admin.token'), '--trust-first-use'],
      {
        env: { ...process.env, KILN_CONFIG: join(data, 'setup/config') },
      },
    );
    await mustRun('cp', [join(data, 'setup/signer.pem'), join(data, 'pinned.pem')]);
    await configure();
    root = await makeSmallRoot(older);
    await push('fleet-one');
    await push(
      'fleet-two',
      'BUILT_MODULE_NAME[0]=fleet-left\nBUILT_MODULE_NAME[1]=fleet-right\nDEST_MODULE_LOCATION[1]=/updates',
      {
        Makefile: 'obj-m := fleet-left.o fleet-right.o\n',
        'fleet-left.c': moduleCode('int fleet_left(void) { return 1; } EXPORT_SYMBOL(fleet_left);'),
        'fleet-right.c': moduleCode(
          'int fleet_left(void); int fleet_right(void) { return fleet_left(); }',
        ),
      },
    );
    await push('fleet-only', `BUILD_EXCLUSIVE_KERNEL="^${older.replaceAll('.', String.raw`\.`)}"`);
    // Fails for the newer kernel alone.
    await push('fleet-odd', '', {
      'fleet-odd.c': moduleCode(
        '#include <generated/utsrelease.h>\nstatic char fits[sizeof(UTS_RELEASE)] = FITS;',
      ),
      Makefile: `obj-m := fleet-odd.o\nccflags-y := $(if $(filter ${older},$(KERNELRELEASE)),-DFITS='""',-DFITS=no_such_thing)\n`,
    });
  });
  afterAll(() => kiln?.stop());

  it('gets several modules for a kernel in one go', async () => {
    const out = await must('install', 'fleet-one', 'fleet-two', 'fleet-only', '-k', older);
    expect(out).toMatch(/fleet-right\.ko/);
    expect((await rows()).map(({ name, state }) => [name, state])).toEqual([
      ['fleet-one', 'installed'],
      ['fleet-only', 'installed'],
      ['fleet-two', 'installed'],
    ]);
  });

  it('has them for a kernel that comes, by the hook’s command; what is not for that kernel is said to be excluded', async () => {
    await addKernel(root, newer);
    expect((await stateOf('fleet-one', newer))?.state).toBe('missing');
    const { status, stderr } = await on('autoinstall', '--hook', '-k', newer);
    expect([status, stderr]).toEqual([0, expect.stringMatching(/fleet-only.* not for|is not for/)]);
    expect(
      (await rows())
        .filter(({ release }) => release === newer)
        .map(({ name, state }) => [name, state]),
    ).toEqual([
      ['fleet-one', 'installed'],
      ['fleet-only', 'excluded'],
      ['fleet-two', 'installed'],
    ]);
    expect(await must('verify')).toMatch(/ok/);
  });

  it('is left alone by hooks where the configuration says so, and not by who names a kernel', async () => {
    await must('remove', 'fleet-one', '-k', newer);
    await configure('autoinstall = no');
    expect(await must('autoinstall', '--hook', '-k', newer)).toMatch(/nothing to do/);
    await configure('skip-kernels = 5.*, 6.1.*-amd64');
    expect(await must('autoinstall', '--hook', '-k', newer)).toMatch(/nothing to do/);
    expect((await on('autoinstall', '-k', newer)).stdout).toMatch(/fleet-one\.ko/);
    await configure();
  });

  it('is not harmed by a hook that reaches no service', async () => {
    await must('remove', 'fleet-one', '-k', newer);
    const { status, stderr } = await on(
      'autoinstall',
      '--hook',
      '-k',
      newer,
      '--server',
      'http://127.0.0.1:1',
      '--patience',
      '0',
    );
    expect([status, stderr]).toEqual([
      0,
      expect.stringMatching(/^kiln: .*kiln-autoinstall\.service tries again$/m),
    ]);
    expect((await on('autoinstall', '--all')).stdout).toMatch(/fleet-one/);
  });

  it('says what changed: headers under the same release, and a source’s version', async () => {
    const headers = await copyHeaders(await fewHeaders(newer), newer);
    await headers.edit('include/generated/autoconf.h', (text) => `${text}\n/* changed */\n`);
    await kiln.json('kernel', 'push', headers.directory);
    expect(await stateOf('fleet-one', newer)).toMatchObject({
      state: 'stale',
      because: [expect.stringMatching(/the headers package: other files, the same configuration/)],
    });
    expect((await stateOf('fleet-one', older))?.state).toBe('installed');
    await must('autoinstall', '--hook', '--all').catch(() => {});
    expect((await stateOf('fleet-one', newer))?.state).toBe('installed');

    const next = await dkmsSource('fleet-one', '', {
      'fleet-one.c': moduleCode('MODULE_VERSION("2");'),
    });
    await mustRun('sed', ['-i', 's/VERSION=1.0/VERSION=2.0/', join(next, 'dkms.conf')]);
    await kiln.json('source', 'push', next);
    expect((await stateOf('fleet-one', older))?.because).toEqual([
      'the source: fleet-one/1.0, now fleet-one/2.0',
    ]);
    expect(await must('explain', 'fleet-one', '-k', older)).toMatch(
      /the source: fleet-one\/1\.0, now fleet-one\/2\.0/,
    );
    await on('autoinstall', '--all');
    expect(await must('explain', 'fleet-one', '-k', older)).toMatch(/the same bytes/);
  });

  it('remembers what failed, and since when', async () => {
    await on('install', 'fleet-odd', '-k', older, '-k', newer);
    const row = await stateOf('fleet-odd', newer);
    expect(row).toMatchObject({
      state: 'failed',
      because: [expect.stringMatching(/no_such_thing/)],
      since: expect.any(Number),
    });
    await on('autoinstall', '-k', newer);
    expect((await stateOf('fleet-odd', newer))?.since).toBe(row?.since);
    expect((await stateOf('fleet-odd', older))?.state).toBe('installed');
    await must('remove', 'fleet-odd');
  });

  it('shows a module that somebody overwrote, and installs it again', async () => {
    const file = join(root, 'lib/modules', older, 'updates/kiln/fleet-one.ko');
    await writeFile(file, 'nothing');
    expect(await stateOf('fleet-one', older)).toMatchObject({ state: 'overridden' });
    expect((await on('verify')).status).toBe(6);
    await must('install', 'fleet-one', '-k', older);
    expect((await stateOf('fleet-one', older))?.state).toBe('installed');
  });

  it('keeps the kernel’s own module where it is the same or newer, unless it is told otherwise', async () => {
    await push('crc7');
    expect(await on('install', 'crc7', '-k', older)).toMatchObject({
      status: 77,
      stderr: expect.stringMatching(/kernel .* has crc7 itself, in the same version; .*--force/),
    });
    await must('install', 'crc7', '-k', older, '--force');
    expect(await mustRun('modinfo', ['-b', root, '-k', older, '-F', 'filename', 'crc7'])).toMatch(
      /updates\/kiln/,
    );
    await must('remove', 'crc7');
    expect(await mustRun('modinfo', ['-b', root, '-k', older, '-F', 'filename', 'crc7'])).toMatch(
      /kernel\/lib/,
    );
  });

  it('leaves out of a source’s modules the ones that the kernel has itself', async () => {
    await push(
      'fleet-half',
      'BUILT_MODULE_NAME[0]=fleet-new\nBUILT_MODULE_NAME[1]=crc7\nDEST_MODULE_LOCATION[1]=/updates',
      {
        Makefile: 'obj-m := fleet-new.o crc7.o\n',
        'fleet-new.c': moduleCode(),
        'crc7.c': moduleCode(),
      },
    );
    await must('install', 'fleet-half', '-k', older);
    const filename = (name: string): Promise<string> =>
      mustRun('modinfo', ['-b', root, '-k', older, '-F', 'filename', name]);
    expect(await filename('fleet-new')).toMatch(/updates\/kiln/);
    expect(await filename('crc7')).toMatch(/kernel\/lib/);
    await must('remove', 'fleet-half');
  });

  it('asks again as it was asked: with the settings that were given', async () => {
    await push('fleet-set');
    const settings = join(await freshDirectory('settings'), 'fleet-set.conf');
    await writeFile(settings, '# as this host wants it\n');
    const setting = `/etc/dkms/fleet-set.conf=${settings}`;
    await must('install', 'fleet-set', '-k', older, '--setting', setting);
    expect((await stateOf('fleet-set', older))?.state).toBe('installed');
    await on('autoinstall', '-k', newer);
    const receipt = await readFile(
      join(root, 'var/lib/kiln/receipts', newer, 'fleet-set.json'),
      'utf8',
    );
    expect(
      (JSON.parse(receipt) as { inputs: { settings: object } }).inputs.settings,
    ).toHaveProperty(['/etc/dkms/fleet-set.conf']);
    await must('remove', 'fleet-set');
  });

  it('links a module that is proven to fit another kernel, and builds one when its origin goes', async () => {
    // The same kernel under another name, as a rebuilt one with the same symbols.
    const twin = older.replace(/-(\d+)-/, (_, abi: string) => `-${Number(abi) - 1}-`);
    await addTwin(twin);
    await push('fleet-unlinked', 'NO_WEAK_MODULES="yes"');
    await must('install', 'fleet-unlinked', '-k', older);
    await configure('weak-updates = yes');
    // Of the twin's own headers the service has none: what may not be linked there cannot be had.
    expect((await on('autoinstall', '-k', twin)).stderr).toMatch(/fleet-unlinked.*no headers/s);
    expect(await stateOf('fleet-two', twin)).toMatchObject({ state: 'linked' });
    expect(await stateOf('fleet-unlinked', twin)).toMatchObject({ state: 'failed' });
    await must('remove', 'fleet-unlinked');
    const link = join(root, 'lib/modules', twin, 'weak-updates/kiln/fleet-right.ko');
    const [, origin = ''] =
      /^\.\.\/\.\.\/\.\.\/([^/]+)\/updates\/kiln\/fleet-right\.ko$/.exec(await readlink(link)) ??
      [];
    expect([older, newer]).toContain(origin);
    expect((await stat(link)).size).toBeGreaterThan(1000);
    expect(
      await mustRun('modinfo', ['-b', root, '-k', twin, '-F', 'filename', 'fleet-right']),
    ).toMatch(/weak-updates/);
    await must('verify');
    await must('autoremove', '-k', origin);
    expect(await readlink(link).catch(() => '')).not.toContain(origin);
    await configure();
    await must('autoremove', '-k', twin).catch(() => {});
    await rm(join(root, 'lib/modules', twin), { recursive: true });
    await on('autoinstall', '--all');
  });

  /** A kernel directory whose modules and symbols are those of the older kernel, under another release. */
  const addTwin = async (twin: string): Promise<void> => {
    const home = join(root, 'lib/modules', twin);
    await mkdir(home, { recursive: true });
    await mustRun('cp', ['-a', join(root, 'lib/modules', older, 'kernel'), home]);
    for (const name of ['modules.order', 'modules.builtin', 'modules.builtin.modinfo'])
      await mustRun('cp', [join(root, 'lib/modules', older, name), home]);
    await mkdir(join(home, 'build'));
    await mustRun('cp', [
      join(await debianHeaders(older), 'usr/src', `linux-headers-${older}`, 'Module.symvers'),
      join(home, 'build'),
    ]);
    await mustRun('depmod', ['-b', root, twin]);
  };

  it('installs from a bundle without any service, and says what a bundle lacks', async () => {
    const file = join(await freshDirectory('bundle'), 'fleet.bundle');
    const { status, stderr } = await kiln.kiln(
      'bundle',
      'fleet-one',
      'fleet-two',
      '-k',
      newer,
      '-o',
      file,
      '-q',
    );
    expect([status, stderr]).toEqual([0, '']);
    const away = ['--server', 'http://127.0.0.1:1', '--patience', '0'];
    await must('remove', 'fleet-one', 'fleet-two');
    await must('install', 'fleet-one', 'fleet-two', '-k', newer, '--bundle', file, ...away);
    await must('verify');
    expect(await on('install', 'fleet-only', '-k', newer, '--bundle', file, ...away)).toMatchObject(
      {
        status: 3,
        stderr: expect.stringMatching(/the bundle .* has no fleet-only/),
      },
    );
    const bytes = await readFile(file);
    const inside = bytes.lastIndexOf('fleet_right\0');
    bytes.writeUInt8(bytes.readUInt8(inside) ^ 1, inside);
    await writeFile(file, bytes);
    await must('remove', 'fleet-one', 'fleet-two');
    expect(
      (await on('install', 'fleet-one', 'fleet-two', '-k', newer, '--bundle', file, ...away))
        .status,
    ).toBe(6);
    expect((await rows('--offline')).map(({ name }) => name)).not.toContain('fleet-two');
  });

  it('lets what a source was built against come with it, and go when nothing needs it any more', async () => {
    await push('fleet-base');
    for (const name of ['fleet-top', 'fleet-side'])
      await push(name, 'BUILD_DEPENDS[0]="fleet-base"');
    await must('install', 'fleet-top', 'fleet-side', '-k', newer);
    const names = async (): Promise<readonly string[]> =>
      (await rows('--offline'))
        .filter(({ name, state }) => state === 'installed' && /base|side|top/.test(name))
        .map(({ name }) => name);
    expect(await names()).toEqual(['fleet-base', 'fleet-side', 'fleet-top']);
    await must('remove', 'fleet-top');
    expect(await names()).toEqual(['fleet-base', 'fleet-side']);
    expect(await must('remove', 'fleet-side')).toMatch(/removed fleet-base\/1\.0 from/);
    expect(await names()).toEqual([]);
    await must('install', 'fleet-base', 'fleet-side', '-k', newer);
    await must('remove', 'fleet-side');
    expect(await names()).toEqual(['fleet-base']);
    await must('remove', 'fleet-base');
  });

  it('has nothing left when all is removed', async () => {
    await must('install', 'fleet-one', 'fleet-two', '-k', newer, '-k', older);
    await must('remove', 'fleet-one', 'fleet-two', 'fleet-only').catch(async () =>
      must('remove', 'fleet-one', 'fleet-two'),
    );
    expect(await must('status')).toMatch(/nothing is installed/);
    for (const release of [older, newer])
      await expect(stat(join(root, 'lib/modules', release, 'updates'))).rejects.toThrow(/ENOENT/);
  });
});
