import { readFileSync } from 'node:fs';
import { describe, expect, it } from '@jest/globals';
import { BUILD_EXITS, explainBuildEnd } from '../../services/core/sandbox/build-exit.ts';
import { DEFAULT_SANDBOX_LIMITS } from '../../services/core/sandbox/limits.ts';

const limits = { ...DEFAULT_SANDBOX_LIMITS, cpus: 2 };
const explain = (exitCode: number, log = '', isOutOfMemory = false) =>
  explainBuildEnd({ exitCode, isOutOfMemory }, log, limits);

describe('how a build ended', () => {
  it('is a status that the script’s head lists, each', () => {
    const script = readFileSync(new URL('../../images/build', import.meta.url), 'utf8');
    const head = /^# exit {7}(.*)$/m.exec(script)?.[1] ?? '';
    const listed = [...head.matchAll(/(?:^|· )(\d+) /g)].map(([, status]) => Number(status));
    expect(listed).toEqual(Object.values(BUILD_EXITS));
    const used = [...script.matchAll(/\bexit (\d+)/g)].map(([, status]) => Number(status));
    expect(used.filter((status) => !listed.includes(status))).toEqual([]);
  });

  it.each([
    [BUILD_EXITS.badConf, 'bad-source', /dkms\.conf cannot be evaluated/],
    [BUILD_EXITS.moduleMissing, 'bad-output', /left no module where dkms/],
    [BUILD_EXITS.badRecipe, 'builder-broken', /the build script did not get the whole recipe/],
    [BUILD_EXITS.stepFailed, 'compile-failed', /ended with exit status 20$/],
    [137, 'compile-failed', /ended with exit status 137$/],
  ])('says for %i: %s', (status, code, message) => {
    expect(explain(status)).toMatchObject({ code, message: expect.stringMatching(message) });
  });

  it('says first what it had too little of', () => {
    expect(explain(20, '', true)).toMatchObject({ code: 'out-of-memory' });
    expect(explain(20, 'cp: x: No space left on device\n')).toMatchObject({ code: 'over-limit' });
  });

  it.each([
    ['python3', '/bin/sh: 1: python3: not found\nmake: *** [Makefile:3: x] Error 127'],
    ['autoreconf', 'pre: line 2: autoreconf: command not found\nkiln: … exit status 127'],
    ['flex', 'make[2]: flex: No such file or directory\nmake[2]: *** [m:2: all] Error 127'],
    ['python3', "/usr/bin/env: 'python3': No such file or directory\n… exit status 127"],
    [
      'perl5',
      '/bin/sh: line 1: ./gen: /usr/local/bin/perl5: bad interpreter: No such file or directory\nmake: *** [x] Error 126',
    ],
  ])('names %s where it was not there', (program, log) => {
    expect(explain(20, log).message).toContain(
      `the build runs ${program}, which is missing from its toolchain`,
    );
  });

  it.each([
    [
      'a program that a configure script can do without',
      'sh: 1: which: not found\nx.c:1: error: y',
    ],
    ['a file', 'cat: /usr/x: No such file or directory\nmake: *** [x] Error 1'],
  ])('names no program for %s', (_, log) => {
    expect(explain(20, log).message).toBe('the build ended with exit status 20');
  });

  it.each([
    ['/usr/lib/x', "cp: cannot create regular file '/usr/lib/x': Read-only file system"],
    ['/boot/x', '/bin/sh: 1: cannot create /boot/x: Read-only file system'],
    [
      '/lib/modules/6.1/misc',
      'mkdir: cannot create directory ‘/lib/modules/6.1/misc’: Read-only file system',
    ],
  ])('says that %s was written to, by whom', (path, line) => {
    expect(explain(20, `make all\n${line}\nmake: *** Error 1\n`).message).toContain(
      `the build writes to ${path}, outside its own directory, as an installation does (${line})`,
    );
  });
});
