import { describe, expect, it } from '@jest/globals';
import { createTarballGate } from '../../services/core/tree/tarball-rules.ts';
import { digestOf } from '../../services/core/digest.ts';
import { optionsDigest, parseKernelConfig } from '../../services/core/kernel/kernel-config.ts';
import type { ScannedTree, TreeEntry } from '../../services/core/tree/tree.ts';
import {
  inspectKernel,
  isKernelEvidence,
  kernelMounts,
} from '../../services/core/kernel/kernel.ts';
import { hostProgram, refusal } from './samples.ts';

const RELEASE = '6.1.0-56-amd64';
const CONFIG = [
  'CONFIG_X86_64=y',
  'CONFIG_SMP=y',
  'CONFIG_PREEMPT_BUILD=y',
  'CONFIG_MODULE_UNLOAD=y',
  'CONFIG_MODVERSIONS=y',
  'CONFIG_CC_VERSION_TEXT="gcc-12 (Debian 12.2.0-14) 12.2.0"',
  'CONFIG_MODULE_SIG_HASH="sha256"',
  'CONFIG_RETPOLINE=y',
  'CONFIG_AS_IS_GNU=y',
  'CONFIG_AS_VERSION=24000',
  'CONFIG_LD_IS_BFD=y',
  'CONFIG_LD_VERSION=24000',
  'CONFIG_DEBUG_INFO_BTF_MODULES=y',
  'CONFIG_PAHOLE_VERSION=124',
].join('\n');

type Files = Readonly<Record<string, string>>;

const buildTree: Files = {
  '.config': CONFIG,
  'include/generated/utsrelease.h': `#define UTS_RELEASE "${RELEASE}"\n`,
  'include/generated/compile.h': '#define UTS_VERSION "#1 SMP Debian 6.1.1-1"\n',
  'Module.symvers': '0x12345678\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n',
  Makefile: 'include scripts/Makefile.extra\n',
};

const below = (directory: string, files: Files): Files =>
  Object.fromEntries(Object.entries(files).map(([path, text]) => [`${directory}/${path}`, text]));

const HEADERS = `usr/src/linux-headers-${RELEASE}`;
const COMMON = 'usr/src/linux-headers-6.1.0-56-common';
const program = (machine: number, glibc: string): string =>
  hostProgram(machine, 'GLIBC_2.2.5', `GLIBC_${glibc}`).toString('latin1');

const debian: Files = {
  ...below(HEADERS, buildTree),
  [`${HEADERS}/Makefile`]: `include /${COMMON}/Makefile\n`,
  [`${HEADERS}/scripts`]: '-> ../../lib/linux-kbuild-6.1/scripts',
  [`${COMMON}/Makefile`]: 'common',
  'usr/lib/linux-kbuild-6.1/scripts/mod/modpost': program(62, '2.34'),
};

/** The files (links begin with `-> `) as the reader of tarballs hands them on, their names through the same rules. */
const scan = (files: Files): ScannedTree => {
  const gate = createTarballGate();
  const entries: TreeEntry[] = [];
  const evidence = new Map<string, Buffer>();
  for (const [name, text] of Object.entries(files)) {
    const target = /^-> (.*)$/.exec(text)?.[1];
    const type = target === undefined ? 'file' : 'symlink';
    const admitted = gate.admit({ name, type, mode: 0o644, linkname: target });
    if (admitted.kind === 'symlink') entries.push(admitted);
    if (admitted.kind !== 'file') continue;
    entries.push({ ...admitted, digest: digestOf(text) });
    if (isKernelEvidence(admitted.path)) evidence.set(admitted.path, Buffer.from(text));
  }
  return { entries, evidence };
};

describe('a kernel', () => {
  it('is the same before and after the kernel itself is built in its tree', () => {
    const built = { ...buildTree, 'init/main.o': 'object', 'certs/signing_key.pem': 'secret' };
    expect(inspectKernel(scan(built)).tree).toEqual(inspectKernel(scan(buildTree)).tree);
  });

  it('is found in Debian’s layout from /', () => {
    const { kernel, tree } = inspectKernel(scan(debian));
    expect(kernel).toEqual({
      digest: tree.digest,
      release: RELEASE,
      build: '#1 SMP Debian 6.1.1-1',
      arch: 'x86_64',
      configDigest: digestOf(CONFIG),
      options: optionsDigest(parseKernelConfig(CONFIG)),
      symversDigest: digestOf(buildTree['Module.symvers'] ?? ''),
      compiler: 'gcc-12 (Debian 12.2.0-14) 12.2.0',
      contract: {
        isClang: false,
        linker: { kind: 'GNU ld', version: 24000 },
        assembler: 24000,
        pahole: null,
        rustc: null,
      },
      vermagic: `${RELEASE} SMP preempt mod_unload modversions`,
      marks: { retpoline: 'Y' },
      signatureHash: 'sha256',
      buildDirectory: `/${HEADERS}`,
      sourceDirectory: `/${COMMON}`,
      missing: [],
      hostPrograms: { arches: ['x86_64'], glibc: '2.34' },
    });
    expect(tree.entries.map(({ path }) => path)).toEqual(Object.keys(debian).sort());
  });

  it.each([
    ['at the top', buildTree],
    ['in a directory', below('build', buildTree)],
    ['deep in directories', below('lib/modules/x/build', buildTree)],
    ['where Debian puts it', below(HEADERS, buildTree)],
  ])('is one and the same whether its build tree lies %s', (_, files) => {
    const { kernel } = inspectKernel(scan(files));
    expect(kernel).toEqual(inspectKernel(scan(buildTree)).kernel);
    expect(kernel.buildDirectory).toBe(`/${HEADERS}`);
  });

  it.each([
    ['names begin with ./', below('.', debian)],
    ['tree from / lies in a directory', below('root/fs', debian)],
    ['order is another', Object.fromEntries(Object.entries(debian).toReversed()) satisfies Files],
    [
      'other packages came along',
      {
        ...debian,
        'usr/src/hello-1.0/dkms.conf': '',
        'usr/src/python3/x.py': '',
        'usr/lib/os-release': '',
        'etc/passwd': '',
      },
    ],
  ])('is the same kernel when the tarball’s %s', (_, files) => {
    const { kernel, tree } = inspectKernel(scan(files));
    expect({ kernel, tree }).toEqual({
      kernel: inspectKernel(scan(debian)).kernel,
      tree: inspectKernel(scan(debian)).tree,
    });
  });

  it('is another kernel with one byte of other headers', () => {
    const other = scan({ ...debian, [`${COMMON}/Makefile`]: 'Common' });
    expect(inspectKernel(other).kernel.digest).not.toBe(inspectKernel(scan(debian)).kernel.digest);
  });

  it('may lack Module.symvers and a version', () => {
    const { '.config': config = '', 'include/generated/utsrelease.h': uts = '' } = buildTree;
    const { kernel } = inspectKernel(
      scan({ '.config': config, 'include/generated/utsrelease.h': uts }),
    );
    expect(kernel).toMatchObject({ symversDigest: null, build: null });
  });

  it.each([
    ['another tree', `include /${COMMON}/Makefile`, `/${COMMON}`],
    ['another tree, among other lines', `# a\ninclude /${COMMON}/Makefile\nb:\n`, `/${COMMON}`],
    ['none', 'VERSION = 6\n', null],
    ['itself', `include /${HEADERS}/Makefile`, null],
    ['one by a relative path', 'include ../linux-headers-6.1.0-56-common/Makefile', `/${COMMON}`],
    ['one as Linux 4 wrote it', `MAKEARGS := -C ../linux-headers-6.1.0-56-common`, `/${COMMON}`],
    ['one in a comment', `# include /${COMMON}/Makefile`, null],
    ['only a file of another tree', `include /${COMMON}/Makefile.extra`, null],
  ])('whose Makefile includes %s has its source there', (_, makefile, sourceDirectory) => {
    const { kernel } = inspectKernel(scan({ ...debian, [`${HEADERS}/Makefile`]: makefile }));
    expect(kernel.sourceDirectory).toBe(sourceDirectory);
  });

  it.each([
    '/home/me/linux',
    '/usr/src/a/b',
    '/usr/src/linux-headers-6.1.0-56',
    '/usr',
    '/usr/src',
  ])('whose Makefile hands over to %s is refused without it', (source) => {
    const scanned = scan({ ...debian, [`${HEADERS}/Makefile`]: `include ${source}/Makefile\n` });
    expect(() => inspectKernel(scanned)).toThrow(`hands over to ${source}, which is not among`);
  });

  /** Ubuntu's: the flavour's folder is links into the common one, which is called as its source package is. */
  const ubuntu = (family: string): Files => ({
    ...below('usr/src/linux-headers-6.8.0-1-x', {
      '.config': CONFIG,
      'include/generated/utsrelease.h': '#define UTS_RELEASE "6.8.0-1-x"\n',
      'include/linux': `-> ../../${family}-6.8.0-1/include/linux`,
      Makefile: `-> ../${family}-6.8.0-1/Makefile`,
      rust: '-> ../linux-lib-rust-6.8.0-1-x/rust',
    }),
    [`usr/src/${family}-6.8.0-1/Makefile`]: 'common',
    [`usr/src/${family}-6.8.0-1/include/linux/a.h`]: 'a',
  });
  it.each(['linux-headers', 'linux-hwe-6.8-headers', 'linux-gcp-headers', 'of-my-own'])(
    'has a part that its links lead to, though that is called %s',
    (family) => {
      const files = ubuntu(family);
      const { kernel, tree } = inspectKernel(scan(files));
      expect(tree.entries.map(({ path }) => path)).toEqual(Object.keys(files).sort());
      expect(kernel.missing).toEqual(['/usr/src/linux-lib-rust-6.8.0-1-x']);
      const beside = Object.entries(files).map(([path, text]) => [path.slice(8), text] as const);
      expect(inspectKernel(scan(Object.fromEntries(beside))).kernel).toEqual(kernel);
      const alone = Object.entries(files).filter(([path]) => path.includes('6.8.0-1-x/'));
      expect(() => inspectKernel(scan(Object.fromEntries(alone)))).toThrow(
        `the headers’ links linux, Makefile lead to /usr/src/${family}-6.8.0-1, `,
      );
    },
  );

  it('is refused where it leads to more parts than a kernel has', () => {
    const parts = Array.from({ length: 20 }, (_, index) => `usr/src/part-${index}`);
    const links = parts.map((part, index) => [`${HEADERS}/l${index}`, `-> /${part}/a`]);
    const files = parts.map((part) => [`${part}/a`, '']);
    const all = { ...debian, ...Object.fromEntries([...links, ...files]) };
    expect(() => inspectKernel(scan(all))).toThrow(refusal('bad-kernel', /over 16 directories/));
  });

  it('takes its source from the Makefile of its build tree alone', () => {
    const { kernel } = inspectKernel(
      scan({
        ...debian,
        [`${HEADERS}/Makefile`]: '',
        [`${COMMON}/Makefile`]: 'include /usr/src/x/Makefile',
      }),
    );
    expect(kernel.sourceDirectory).toBeNull();
  });

  it('asks for pahole with a vmlinux in its build tree, and with one elsewhere for none', () => {
    const pahole = (path: string): number | null =>
      inspectKernel(scan({ ...debian, [path]: '' })).kernel.contract.pahole;
    expect(pahole(`${HEADERS}/vmlinux`)).toBe(124);
    expect(pahole(`${COMMON}/vmlinux`)).toBeNull();
    expect(pahole(`${HEADERS}/arch/vmlinux`)).toBeNull();
  });

  it('asks of its host what the most demanding of its own programs asks', () => {
    const { kernel } = inspectKernel(
      scan({
        ...debian,
        'usr/lib/linux-kbuild-6.1/scripts/basic/fixdep': program(62, '2.4'),
        'usr/lib/linux-kbuild-6.1/tools/objtool/objtool': program(62, '2.38'),
        'usr/lib/linux-kbuild-6.1/scripts/kallsyms': program(3, '2.99'),
      }),
    );
    expect(kernel.hostPrograms).toEqual({ arches: ['x86_64'], glibc: '2.38' });
  });

  it('put together from two machines’ trees says so', () => {
    const { kernel } = inspectKernel(
      scan({ ...debian, 'usr/lib/linux-kbuild-6.1/scripts/basic/fixdep': program(3, '2.3') }),
    );
    expect(kernel.hostPrograms.arches).toEqual(['i686', 'x86_64']);
  });

  it('without programs of its own asks nothing of its host', () => {
    const { kernel } = inspectKernel(scan(buildTree));
    expect(kernel.hostPrograms).toEqual({ arches: [], glibc: null });
  });

  const without = (path: string): Files => {
    const { [path]: _, ...rest } = buildTree;
    return rest;
  };
  it.each<[string, RegExp, Files]>([
    ['no .config', /have no \.config/, without('.config')],
    ['nothing at all', /have no \.config/, {}],
    ['no utsrelease.h', /make modules_prepare/, without('include/generated/utsrelease.h')],
    [
      'the two in different directories',
      /no include\/generated\/utsrelease\.h beside it/,
      { 'a/.config': CONFIG, 'b/include/generated/utsrelease.h': '' },
    ],
    [
      'two kernels',
      /headers of 2 kernels \(a, b\)/,
      { ...below('a', buildTree), ...below('b', buildTree) },
    ],
    [
      'an empty utsrelease.h',
      /which kernel release/,
      { ...buildTree, 'include/generated/utsrelease.h': '' },
    ],
    [
      'a release that is a path',
      /which kernel release/,
      { ...buildTree, 'include/generated/utsrelease.h': '#define UTS_RELEASE "6.1/../../etc"' },
    ],
    ['an unknown architecture', /no architecture/, { ...buildTree, '.config': 'CONFIG_ALPHA=y' }],
  ])('is refused with %s', (_, words, files) => {
    expect(() => inspectKernel(scan(files))).toThrow(refusal('bad-kernel', words));
  });
});

describe('kernelMounts', () => {
  it('names the directories right below usr/src and usr/lib, each once', () => {
    const { tree } = inspectKernel(scan(debian));
    expect(kernelMounts({ entries: tree.entries.toReversed() })).toEqual([
      'usr/lib/linux-kbuild-6.1',
      'usr/src/linux-headers-6.1.0-56-amd64',
      'usr/src/linux-headers-6.1.0-56-common',
    ]);
  });
});
