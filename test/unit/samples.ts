import { runInNewContext } from 'node:vm';
import { expect } from '@jest/globals';
import { digestOf } from '../../services/core/digest.ts';
import type { ErrorCode } from '../../services/core/errors.ts';
import type { Kernel } from '../../services/core/kernel.ts';
import type { Source } from '../../services/core/source.ts';

/** What a refusal must be, for `toThrow`: a `KilnError` with this code whose sentence has these words. */
export const refusal = (code: ErrorCode, words: RegExp): unknown =>
  expect.objectContaining({ name: 'KilnError', code, message: expect.stringMatching(words) });

/** Ends `work` with an exception when it holds the only thread for too long, as hostile input may make it. */
export const withinSeconds = <T>(seconds: number, work: () => T): T =>
  runInNewContext('work()', { work }, { timeout: seconds * 1000 }) as T;

export const debianKernel: Kernel = {
  digest: digestOf('kernel tree'),
  release: '6.1.0-56-amd64',
  build: '#1 SMP PREEMPT_DYNAMIC Debian 6.1.1-1 (2026-01-01)',
  arch: 'x86_64',
  configDigest: digestOf('config'),
  symversDigest: digestOf('symvers'),
  compiler: 'gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0',
  vermagic: '6.1.0-56-amd64 SMP preempt mod_unload modversions',
  signatureHash: 'sha256',
  buildDirectory: '/usr/src/linux-headers-6.1.0-56-amd64',
};

export const dkmsSource: Source = {
  digest: digestOf('source'),
  tree: digestOf('source tree'),
  name: 'hello',
  version: '1.0',
  kind: 'dkms',
};
