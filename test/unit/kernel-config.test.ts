import { describe, expect, it } from '@jest/globals';
import {
  archOf,
  marksOf,
  parseKernelConfig,
  signatureHashOf,
  vermagicOf,
  type KernelConfig,
  optionsDigest,
} from '../../services/core/kernel/kernel-config.ts';

const having = (...options: string[]): KernelConfig =>
  parseKernelConfig(options.map((option) => `CONFIG_${option}=y\n`).join(''));

describe('a .config', () => {
  it('is read as options without quotes; comments and what is not set are absent', () => {
    const config = parseKernelConfig(
      [
        '# Automatically generated file; DO NOT EDIT.',
        'CONFIG_SMP=y',
        '# CONFIG_PREEMPT_NONE is not set',
        'CONFIG_USB=m',
        'CONFIG_CC_VERSION_TEXT="gcc-12 (Debian 12.2.0-14) 12.2.0"',
        'CONFIG_LOCALVERSION=""',
        'CONFIG_CMDLINE="a=b"',
        ' CONFIG_INDENTED=y',
      ].join('\n'),
    );
    expect([...config]).toEqual([
      ['SMP', 'y'],
      ['USB', 'm'],
      ['CC_VERSION_TEXT', 'gcc-12 (Debian 12.2.0-14) 12.2.0'],
      ['LOCALVERSION', ''],
      ['CMDLINE', 'a=b'],
    ]);
  });

  it.each([
    ['X86_64', 'x86_64'],
    ['X86_32', 'i686'],
    ['ARM64', 'aarch64'],
    ['ARM', 'armv7l'],
    ['PPC64', 'ppc64le'],
    ['S390', 's390x'],
    ['RISCV', 'riscv64'],
  ])('with CONFIG_%s is for %s', (option, arch) => {
    expect(archOf(having('SMP', option))).toBe(arch);
  });

  it('is for no known architecture where its option is missing or not y', () => {
    expect(archOf(having('SMP'))).toBeNull();
    expect(archOf(parseKernelConfig('CONFIG_X86_64=m'))).toBeNull();
  });

  it.each([
    ['RETPOLINE', { retpoline: 'Y' }],
    ['MITIGATION_RETPOLINE', { retpoline: 'Y' }],
    ['SMP', {}],
  ])('with CONFIG_%s expects these marks of its modules: %j', (option, marks) => {
    expect(marksOf(having(option))).toEqual(marks);
  });

  it('names the signature’s hash; sha512 where it does not', () => {
    expect(signatureHashOf(parseKernelConfig('CONFIG_MODULE_SIG_HASH="sha256"'))).toBe('sha256');
    expect(signatureHashOf(having('SMP'))).toBe('sha512');
  });
});

describe('the vermagic', () => {
  const unloadable = ['MODULE_UNLOAD', 'MODVERSIONS'];

  it.each([
    [
      'Debian’s 6.1',
      '6.1.0-56-amd64',
      ['X86_64', 'SMP', 'PREEMPT_BUILD', ...unloadable],
      '6.1.0-56-amd64 SMP preempt mod_unload modversions',
    ],
    [
      'Debian’s real-time 6.1',
      '6.1.0-56-rt-amd64',
      ['X86_64', 'SMP', 'PREEMPTION', 'PREEMPT_RT', ...unloadable],
      '6.1.0-56-rt-amd64 SMP preempt_rt mod_unload modversions',
    ],
    ['a preemptible kernel before 5.16', '5.10.0', ['SMP', 'PREEMPT'], '5.10.0 SMP preempt'],
    ['the barest kernel', '6.1.0', ['X86_64'], '6.1.0'],
    [
      'an arm64 kernel',
      '6.1.0-56-arm64',
      ['ARM64', 'SMP', ...unloadable],
      '6.1.0-56-arm64 SMP mod_unload modversions aarch64',
    ],
    [
      'a riscv64 kernel',
      '6.12.0',
      ['RISCV', 'SMP', 'MODULE_UNLOAD'],
      '6.12.0 SMP mod_unload riscv',
    ],
  ])('of %s is as include/linux/vermagic.h makes it', (_, release, options, vermagic) => {
    expect(vermagicOf(release, having(...options))).toBe(vermagic);
  });
});

describe('the digest of a kernel’s options', () => {
  const digest = (text: string): string => optionsDigest(parseKernelConfig(text));

  it('is the same for a config as shipped and as in the headers', () => {
    const shipped = '# Linux/x86 6.1 Kernel Configuration\nCONFIG_B=m\nCONFIG_A=y\n';
    const headers =
      'CONFIG_A=y\nCONFIG_BUILD_SALT="6.1.0-56-amd64"\nCONFIG_B=m\nCONFIG_MODULE_SIG_ALL=y\nCONFIG_MODULE_SIG_KEY="x.pem"\nCONFIG_SYSTEM_TRUSTED_KEYS=""\n';
    expect(digest(headers)).toBe(digest(shipped));
  });

  it('is another with any other option', () => {
    expect(digest('CONFIG_A=y\nCONFIG_B=m\n')).not.toBe(digest('CONFIG_A=y\nCONFIG_B=y\n'));
    expect(digest('CONFIG_A=y\nCONFIG_MODULE_SIG_HASH="sha256"\n')).not.toBe(
      digest('CONFIG_A=y\n'),
    );
  });
});
