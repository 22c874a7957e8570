import { describe, expect, it } from '@jest/globals';
import { errorLines } from '../../services/core/sandbox/compiler-output.ts';

const GCC = [
  '/var/lib/dkms/hello/1.0/build/hello.c: In function ‘hello_init’:',
  '/var/lib/dkms/hello/1.0/build/hello.c:7:5: warning: unused variable ‘error’',
  '/var/lib/dkms/hello/1.0/build/hello.c:9:9: error: implicit declaration of function ‘pr_inf’',
  '    9 |         pr_inf("hello");',
  '/var/lib/dkms/hello/1.0/build/hello.c:12:10: fatal error: missing.h: No such file or directory',
];
const MAKE = [
  'make[2]: *** [scripts/Makefile.build:250: hello.o] Error 1',
  'make: *** [Makefile:1932: build] Error 2',
  "kiln: step 'make' ended with exit status 2",
];
const log = (...lines: string[]): string => `kiln: make: make all\n${lines.join('\n')}\n`;

describe('the lines that say why a build failed', () => {
  it('are the compiler’s errors, before what make says of them', () => {
    expect(errorLines(log(...GCC, ...MAKE))).toEqual([GCC[2], GCC[4]]);
  });

  it('are those of a definition on its command line, too', () => {
    const line = "<command-line>: error: 'no_such_thing' undeclared here (not in a function)";
    expect(errorLines(log(line, ...MAKE))).toEqual([line]);
  });

  it.each([
    ['modpost’s', 'ERROR: modpost: "no_such_symbol" [hello.ko] undefined!'],
    ['the linker’s of a symbol', 'a.o: in function `b’: a.c:3: undefined reference to `c’'],
    ['the linker’s own', 'ld: cannot find -lfoo: No such file'],
    ['patch’s', 'Hunk #1 FAILED at 3.'],
    ['the shell’s', 'bash: line 1: ./configure: No such file or directory'],
  ])('are %s where the compiler has none', (_, line) => {
    expect(errorLines(log('  CC [M] hello.o', line, ...MAKE))).toEqual([line]);
  });

  it.each([
    ['a shell’s without a line', './configure: Permission denied'],
    ['a script’s own', 'configure: error: the kernel has no CONFIG_X'],
    ['a tool’s', 'cp: cannot stat a.ko'],
  ])('are %s, before Kiln’s, where make had no part in it', (_, line) => {
    const end = "kiln: step 'pre-build' ended with exit status 1";
    expect(errorLines(log('checking for a kernel... yes', line, end))).toEqual([line]);
    expect(errorLines(log('checking for a kernel... yes', end))).toEqual([end]);
  });

  it('are make’s where nothing says more, then Kiln’s', () => {
    expect(errorLines(log(...MAKE))).toEqual(MAKE.slice(0, 2));
    expect(errorLines('one\nkiln: the build left no module\ntwo')).toEqual([
      'kiln: the build left no module',
    ]);
  });

  it('are the log’s last ones where none is known, blank ones aside', () => {
    expect(errorLines('one\n\ntwo\n  \nthree\n', 2)).toEqual(['two', 'three']);
    expect(errorLines('')).toEqual([]);
  });

  it('are the first of many, as later errors follow from earlier ones', () => {
    const many = Array.from({ length: 20 }, (_, n) => `a.c:${n + 1}:1: error: number ${n + 1}`);
    expect(errorLines(log(...many))).toEqual(many.slice(0, 12));
    expect(errorLines(log(...many), 1)).toEqual(many.slice(0, 1));
  });

  it.each([
    '/var/lib/dkms/hello/1.0/build/Makefile:3: *** missing separator.  Stop.',
    'Makefile:12: *** KERNELRELEASE is too old for this driver.  Stop.',
  ])('name a Makefile’s own error: %s', (line) => {
    expect(errorLines(log(line, ...MAKE))).toContain(line);
  });

  it('are a configure script’s own words, over those of the make that has nothing to go by', () => {
    const configured = [
      'checking kernel source version... 6.12',
      'configure: error:',
      '\t*** Cannot build against kernel version 6.12.',
      '\t*** The maximum supported kernel version is 6.2.',
      '',
      'make: *** No targets specified and no makefile found.  Stop.',
    ].join('\n');
    expect(errorLines(configured)).toEqual([
      '\t*** Cannot build against kernel version 6.12.',
      '\t*** The maximum supported kernel version is 6.2.',
    ]);
    expect(errorLines('configure: error: no iptables\nmake: *** [all] Error 1\n')).toEqual([
      'configure: error: no iptables',
    ]);
  });
});
