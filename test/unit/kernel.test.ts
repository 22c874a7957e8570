import { describe, expect, it } from '@jest/globals';
import { createArchiveGate } from '../../services/core/archive-rules.ts';
import { digestOf } from '../../services/core/digest.ts';
import {
  inspectKernel,
  isKernelEvidence,
  kernelMounts,
  type ScannedArchive,
} from '../../services/core/kernel.ts';
import type { TreeEntry } from '../../services/core/tree.ts';
import { refusal } from './samples.ts';

const RELEASE = '6.1.0-56-amd64';
const CONFIG = [
  'CONFIG_X86_64=y',
  'CONFIG_SMP=y',
  'CONFIG_PREEMPT_BUILD=y',
  'CONFIG_MODULE_UNLOAD=y',
  'CONFIG_MODVERSIONS=y',
  'CONFIG_CC_VERSION_TEXT="gcc-12 (Debian 12.2.0-14) 12.2.0"',
  'CONFIG_MODULE_SIG_HASH="sha256"',
].join('\n');

type Files = Readonly<Record<string, string>>;

const buildTree: Files = {
  '.config': CONFIG,
  'include/generated/utsrelease.h': `#define UTS_RELEASE "${RELEASE}"\n`,
  'include/generated/compile.h': '#define UTS_VERSION "#1 SMP Debian 6.1.1-1"\n',
  'Module.symvers': '0x12345678\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n',
  Makefile: 'include ../common\n',
};

const below = (directory: string, files: Files): Files =>
  Object.fromEntries(Object.entries(files).map(([path, text]) => [`${directory}/${path}`, text]));

const debian: Files = {
  ...below(`usr/src/linux-headers-${RELEASE}`, buildTree),
  'usr/src/linux-headers-6.1.0-56-common/Makefile': 'common',
  'usr/lib/linux-kbuild-6.1/scripts/mod/modpost': 'ELF',
};

/** The files as the archive reader hands them on, their names through the same rules. */
const scan = (files: Files): ScannedArchive => {
  const gate = createArchiveGate();
  const entries: TreeEntry[] = [];
  const evidence = new Map<string, Buffer>();
  for (const [name, text] of Object.entries(files)) {
    const admitted = gate.admit({ name, type: 'file', mode: 0o644 });
    if (admitted.kind !== 'file') throw new Error(name);
    entries.push({ ...admitted, digest: digestOf(text) });
    if (isKernelEvidence(admitted.path)) evidence.set(admitted.path, Buffer.from(text));
  }
  return { entries, evidence };
};

describe('a kernel', () => {
  it('is found in Debian’s layout from /', () => {
    const { kernel, tree } = inspectKernel(scan(debian));
    expect(kernel).toEqual({
      digest: tree.digest,
      release: RELEASE,
      build: '#1 SMP Debian 6.1.1-1',
      arch: 'x86_64',
      configDigest: digestOf(CONFIG),
      symversDigest: digestOf(buildTree['Module.symvers'] ?? ''),
      compiler: 'gcc-12 (Debian 12.2.0-14) 12.2.0',
      vermagic: `${RELEASE} SMP preempt mod_unload modversions`,
      signatureHash: 'sha256',
      buildDirectory: `/usr/src/linux-headers-${RELEASE}`,
    });
    expect(tree.entries.map(({ path }) => path)).toEqual(Object.keys(debian).sort());
  });

  it.each([
    ['at the top', buildTree],
    ['in a directory', below('build', buildTree)],
    ['deep in directories', below('lib/modules/x/build', buildTree)],
    ['where Debian puts it', below(`usr/src/linux-headers-${RELEASE}`, buildTree)],
  ])('is one and the same whether its build tree lies %s', (_, files) => {
    const { kernel } = inspectKernel(scan(files));
    expect(kernel).toEqual(inspectKernel(scan(buildTree)).kernel);
    expect(kernel.buildDirectory).toBe(`/usr/src/linux-headers-${RELEASE}`);
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
  ])('is the same kernel when the archive’s %s', (_, files) => {
    const { kernel, tree } = inspectKernel(scan(files));
    expect({ kernel, tree }).toEqual({
      kernel: inspectKernel(scan(debian)).kernel,
      tree: inspectKernel(scan(debian)).tree,
    });
  });

  it('is another kernel with one byte of other headers', () => {
    const other = scan({ ...debian, 'usr/src/linux-headers-6.1.0-56-common/Makefile': 'Common' });
    expect(inspectKernel(other).kernel.digest).not.toBe(inspectKernel(scan(debian)).kernel.digest);
  });

  it('may lack Module.symvers and a version', () => {
    const { '.config': config = '', 'include/generated/utsrelease.h': uts = '' } = buildTree;
    const { kernel } = inspectKernel(
      scan({ '.config': config, 'include/generated/utsrelease.h': uts }),
    );
    expect(kernel).toMatchObject({ symversDigest: null, build: null });
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
