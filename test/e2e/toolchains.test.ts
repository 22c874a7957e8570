import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { asClangBuilt, copyHeaders, type ChangedHeaders } from '../machine/change-headers.ts';
import { fewHeaders } from '../machine/few-headers.ts';
import { pinToolchain, startKiln, type KilnService } from '../machine/kiln-service.ts';
import { dkmsSource, freshDirectory } from '../machine/make-source.ts';
import { CLANG_TOOLCHAIN, DKMS_TOOLCHAIN, TOOLCHAIN } from '../machine/places.ts';
import { sharedKiln } from '../machine/shared.ts';

interface Build {
  readonly id: string;
  readonly toolchain: { readonly digest: string; readonly name: string };
  readonly inputs: { readonly waived: readonly string[] };
  readonly signature: { readonly kind: string; readonly reason?: string };
}
interface Toolchain {
  readonly digest: string;
  readonly state: string;
}

const shared = sharedKiln();
let kiln: KilnService;
let pinned: string;
let source: string;
beforeAll(async () => {
  kiln = await startKiln(await freshDirectory('toolchains'), { KILN_LOG_LEVEL: 'warn' });
  pinned = await pinToolchain(kiln);
  await kiln.json('kernel', 'push', await fewHeaders(shared.release));
  source = await dkmsSource('steel', '');
  await kiln.json('source', 'push', source);
});
afterAll(async () => {
  await kiln.stop();
});
/** Pushes headers of the release with something changed in them; the kernel's digest. */
const pushChanged = async (change: (headers: ChangedHeaders) => Promise<void>): Promise<string> => {
  const headers = await copyHeaders(await fewHeaders(shared.release), shared.release);
  await change(headers);
  return (await kiln.json<{ digest: string }>('kernel', 'push', headers.directory)).digest;
};
const build = (...args: string[]): Promise<Build> =>
  kiln.json<Build>('build', 'steel', '-k', shared.release, ...args);
const stateOf = async (digest: string): Promise<string | undefined> =>
  (await kiln.json<Toolchain[]>('toolchain', 'list')).find((each) => each.digest === digest)?.state;

describe('a toolchain’s life', () => {
  let candidate: string;

  it('begins as a candidate where one of its name is pinned: it builds for who names it, unsigned', async () => {
    expect(await stateOf(pinned)).toBe('pinned');
    const first = await build();
    expect(first).toMatchObject({ toolchain: { digest: pinned }, signature: { kind: 'signed' } });
    candidate = await pinToolchain(kiln, { name: TOOLCHAIN.name, tar: DKMS_TOOLCHAIN.tar });
    expect(await stateOf(candidate)).toBe('candidate');
    const other = await dkmsSource('second', '');
    const made = await kiln.json<Build>(
      'build',
      other,
      '-k',
      shared.release,
      '--toolchain',
      candidate,
    );
    expect(made.signature.reason).toMatch(/candidate, not pinned/);
  });

  it('goes on when it was tried on all that the pinned one built, and its bytes compared', async () => {
    const early = await kiln.kiln('toolchain', 'promote', candidate);
    expect([early.status, early.stderr]).toEqual([
      2,
      expect.stringMatching(/1 of the 1 builds .*kiln toolchain try/),
    ]);
    const tried = await kiln.json<{ verdict: string }[]>('toolchain', 'try', candidate);
    expect(tried).toMatchObject([{ source: 'steel/1.0', verdict: 'same bytes', isBuilt: true }]);
    expect(await kiln.json('toolchain', 'promote', candidate)).toMatchObject({ state: 'pinned' });
    expect(await stateOf(pinned)).toBe('retired');
    expect((await build()).toolchain.digest).toBe(candidate);
    expect((await build()).signature.kind).toBe('signed');
  });

  it('ends retired: it builds nothing new, and makes again what it has made', async () => {
    const old = await build('--toolchain', pinned);
    expect(old.toolchain.digest).toBe(pinned);
    const another = await dkmsSource('third', '');
    const { status, stderr } = await kiln.kiln(
      'build',
      another,
      '-k',
      shared.release,
      '--toolchain',
      pinned,
    );
    expect([status, stderr]).toEqual([
      2,
      expect.stringMatching(/is retired and builds nothing new/),
    ]);
    expect(await kiln.json('rebuild', old.id)).toMatchObject({ state: 'same', findings: [] });
  });

  it('may begin anew by a rollback', async () => {
    expect(await kiln.json('toolchain', 'rollback', TOOLCHAIN.name)).toMatchObject({
      digest: pinned,
      state: 'pinned',
    });
    expect(await stateOf(candidate)).toBe('retired');
    expect((await build()).toolchain.digest).toBe(pinned);
    expect((await kiln.kiln('toolchain', 'rollback', 'nothing')).status).toBe(3);
  });
});

describe('the compiler contract', () => {
  it('refuses a toolchain that is not the kernel’s, names what differs, and takes a waiver into the record', async () => {
    const digest = await pushChanged((headers) =>
      headers.edit('.config', (text) =>
        text
          .replace(/^(CONFIG_CC_VERSION_TEXT=").*"$/m, '$1gcc-12 (Debian 12.2.0-9) 12.2.0"')
          .replace(/^CONFIG_LD_VERSION=.*$/m, 'CONFIG_LD_VERSION=23900')
          .replace(/^CONFIG_AS_VERSION=.*$/m, 'CONFIG_AS_VERSION=23900')
          .concat('CONFIG_RUST=y\nCONFIG_RUSTC_VERSION_TEXT="rustc 1.99.0"\n'),
      ),
    );
    const rusty = await dkmsSource('rusty', '', { 'part.rs': '// no makefile names it\n' });
    const refused = await kiln.kiln('build', rusty, '-k', digest);
    expect([refused.status, refused.stderr]).toEqual([
      2,
      expect.stringMatching(
        /built with "gcc-12 \(Debian 12\.2\.0-9\) 12\.2\.0".*compiler should be .*linker should be GNU ld 23900, has GNU ld 24000; assembler should be .*23900, has .*24000; rustc should be rustc 1\.99\.0, has none.*--waive compiler,linker,assembler,rustc/,
      ),
    ]);
    const wish = ['-k', digest, '--waive', 'compiler,linker,assembler'];
    expect((await kiln.kiln('build', rusty, ...wish)).status).toBe(2);
    const allWaived = ['-k', digest, '--waive', 'compiler,linker,assembler,rustc'];
    const waived = await kiln.json<Build>('build', rusty, ...allWaived);
    expect(waived.inputs.waived).toEqual(['assembler', 'compiler', 'linker', 'rustc']);
    // The kernel's rustc is nothing to a source in C.
    const inC = await kiln.json<Build>('build', source, ...wish);
    expect(inC.inputs.waived).toEqual(['assembler', 'compiler', 'linker']);
  });

  it.each<[string, (text: string) => string, RegExp]>([
    [
      'a newer libc',
      (text) => text.replaceAll('GLIBC_2.34\0', 'GLIBC_2.77\0'),
      /programs \(modpost\) need GLIBC 2\.77, it has 2\.36/,
    ],
    [
      'another CPU',
      (text) => `${text.slice(0, 18)}\u00b7\0${text.slice(20)}`,
      /programs are for aarch64, it runs x86_64/,
    ],
  ])('is checked on the headers’ own programs before a build: %s', async (_, change, words) => {
    const digest = await pushChanged((headers) =>
      headers.editBytes('usr/lib/linux-kbuild-6.1/scripts/basic/fixdep', change),
    );
    const { status, stderr } = await kiln.kiln('build', source, '-k', digest);
    expect([status, stderr]).toEqual([2, expect.stringMatching(words)]);
  });

  describe('for a kernel that clang built', () => {
    let clang: string;
    const kernels = new Map<string, string>();
    beforeAll(async () => {
      clang = await pinToolchain(kiln, CLANG_TOOLCHAIN);
      for (const linker of ['LLD', 'GNU ld'] as const)
        kernels.set(linker, await pushChanged((headers) => asClangBuilt(headers, linker)));
    });
    const buildFor = async (linker: string, wanted: string): Promise<Build> => {
      const made = await kiln.json<Build>('build', wanted, '-k', kernels.get(linker) ?? '');
      expect(made.toolchain.digest).toBe(clang);
      return made;
    };

    it('builds with clang and lld', async () => {
      const made = await buildFor('LLD', source);
      expect((await kiln.kiln('logs', made.id)).stdout).toMatch(/make -j\d+ /);
      const { inputs } = await kiln.json<{ inputs: { environment: Record<string, string> } }>(
        'show',
        made.id,
      );
      expect(inputs.environment).toMatchObject({ LLVM: '1' });
    });

    it.each([
      ['LLD', /^\s*ld\.lld .*-r /m],
      ['GNU ld', /^\s*ld .*-r /m],
    ])('links with %s where that linked it', async (linker, command) => {
      const loud = await dkmsSource(
        'loud',
        'MAKE[0]="make V=1 -C $kernel_source_dir M=$dkms_tree/loud/1.0/build modules"',
      );
      const made = await buildFor(linker, loud);
      const log = (await kiln.kiln('logs', made.id)).stdout;
      expect(log).toMatch(command);
      expect(log).toMatch(/^\s*clang /m);
    });
  });
});
