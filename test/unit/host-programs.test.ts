import { describe, expect, it } from '@jest/globals';
import {
  hasGlibc,
  inspectHostPrograms,
  isHostProgram,
} from '../../services/core/kernel/host-programs.ts';
import { hostProgram } from './samples.ts';

describe('a header tree’s own program', () => {
  it.each([
    'scripts/mod/modpost',
    'usr/lib/linux-kbuild-6.1/scripts/mod/modpost',
    'usr/lib/linux-kbuild-6.1/scripts/mod/modpost.real-lsb-64',
    'scripts/basic/fixdep',
    'a/tools/objtool/objtool',
    'a/scripts/gcc-plugins/latent_entropy_plugin.so',
  ])('is %s', (path) => {
    expect(isHostProgram(path)).toBe(true);
  });

  it.each([
    'scripts/mod/modpost.c',
    'scripts/mod/modpost.real-',
    'scripts/mod/modpost/x',
    'myscripts/mod/modpost',
    'mod/modpost',
    'scripts/basic/fixdep.o',
    'tools/objtool/objtool.h',
    'scripts/gcc-plugins/a/b.so',
    'scripts/gcc-plugins/.so',
    'scripts/kallsyms',
  ])('is not %s', (path) => {
    expect(isHostProgram(path)).toBe(false);
  });
});

describe('what the programs need', () => {
  it.each<[string, readonly Buffer[], readonly string[], string | null]>([
    ['the CPU and the GLIBC of one', [hostProgram(62, 'GLIBC_2.34')], ['x86_64'], '2.34'],
    [
      'the newest by number, not by letters',
      [hostProgram(62, 'GLIBC_2.4', 'GLIBC_2.34', 'GLIBC_2.9')],
      ['x86_64'],
      '2.34',
    ],
    [
      'the newest of all of them',
      [hostProgram(62, 'GLIBC_2.38'), hostProgram(62, 'GLIBC_2.17')],
      ['x86_64'],
      '2.38',
    ],
    ['a version of three parts', [hostProgram(62, 'GLIBC_2.2.5')], ['x86_64'], '2.2'],
    [
      'each CPU once, in order',
      [hostProgram(62), hostProgram(183), hostProgram(62)],
      ['aarch64', 'x86_64'],
      null,
    ],
    ['no GLIBC where none is asked', [hostProgram(62, 'main', 'libc.so.6')], ['x86_64'], null],
    ['nothing for a CPU without a name', [hostProgram(2, 'GLIBC_2.2')], [], '2.2'],
    ['nothing where there are none', [], [], null],
    [
      'nothing that its debug information says, far behind',
      [
        Buffer.concat([
          hostProgram(62, 'GLIBC_2.34'),
          Buffer.alloc(5e6),
          Buffer.from('\0GLIBC_2.99\0'),
        ]),
      ],
      ['x86_64'],
      '2.34',
    ],
  ])('is %s', (_, programs, arches, glibc) => {
    expect(inspectHostPrograms(programs)).toEqual({ arches, glibc });
  });

  it.each([
    'GLIBC_PRIVATE',
    'GLIBCXX_3.4.99',
    'XGLIBC_2.99',
    'GLIBC_2',
    'GLIBC_2.99x',
    'GLIBC_2.9999',
    'glibc_2.99',
    'GLIBC_2.99.',
  ])('does not count %s, which is no version of GLIBC', (text) => {
    expect(inspectHostPrograms([hostProgram(62, text, 'GLIBC_2.17', text)]).glibc).toBe('2.17');
  });

  it.each([
    ['a script', Buffer.from(`#!/bin/sh\n${' '.repeat(64)}\0GLIBC_2.34\0`)],
    ['an empty file', Buffer.alloc(0)],
    ['a header cut short', hostProgram(62, 'GLIBC_2.34').subarray(0, 63)],
  ])('is nothing for %s', (_, bytes) => {
    expect(inspectHostPrograms([bytes])).toEqual({ arches: [], glibc: null });
    expect(inspectHostPrograms([bytes, hostProgram(62, 'GLIBC_2.3')])).toEqual({
      arches: ['x86_64'],
      glibc: '2.3',
    });
  });
});

describe('a GLIBC', () => {
  it.each([
    ['2.36', '2.34', true],
    ['2.34', '2.34', true],
    ['2.31', '2.34', false],
    ['2.36', '2.4', true],
    ['2.4', '2.36', false],
    ['3.0', '2.36', true],
    ['0', '2.2', false],
  ])('%s is new enough for %s: %j', (version, asked, isEnough) => {
    expect(hasGlibc(version, asked)).toBe(isEnough);
  });
});
