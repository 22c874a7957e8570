import { runInNewContext } from 'node:vm';
import { expect } from '@jest/globals';
import {
  fingerprintInputs,
  type FingerprintInputs,
} from '../../services/core/build/fingerprint.ts';
import { digestOf, type Digest } from '../../services/core/digest.ts';
import type { EvaluatedConf } from '../../services/core/source/dkms-evaluation.ts';
import type { ErrorCode } from '../../services/core/errors.ts';
import type { Kernel } from '../../services/core/kernel/kernel.ts';
import type { BuildView } from '../../services/core/protocol/build.ts';
import { isSourceEvidence, type Source } from '../../services/core/source/source.ts';
import type { ScannedTree } from '../../services/core/tree/tree.ts';

/** What a refusal must be, for `toThrow`: a `KilnError` with this code whose sentence has these words. */
export const refusal = (code: ErrorCode, words: RegExp): unknown =>
  expect.objectContaining({ name: 'KilnError', code, message: expect.stringMatching(words) });

/** Ends `work` with an exception when it holds the only thread for too long, as hostile input may make it. */
export const withinSeconds = <T>(seconds: number, work: () => T): T =>
  runInNewContext('work()', { work }, { timeout: seconds * 1000 }) as T;

/** A tarball of a source, as it is scanned: texts by path. */
export const scanOf = (files: Readonly<Record<string, string>>): ScannedTree => ({
  entries: Object.entries(files).map(([path, text]) => ({
    kind: 'file',
    path,
    executable: false,
    digest: digestOf(text),
  })),
  evidence: new Map(
    Object.entries(files)
      .filter(([path]) => isSourceEvidence(path))
      .map(([path, text]) => [path, Buffer.from(text)]),
  ),
});

export const debianKernel: Kernel = {
  digest: digestOf('kernel tree'),
  release: '6.1.0-56-amd64',
  build: '#1 SMP PREEMPT_DYNAMIC Debian 6.1.1-1 (2026-01-01)',
  arch: 'x86_64',
  configDigest: digestOf('config'),
  options: digestOf('options'),
  symversDigest: digestOf('symvers'),
  compiler: 'gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0',
  contract: {
    isClang: false,
    linker: { kind: 'GNU ld', version: 24000 },
    assembler: 24000,
    pahole: null,
    rustc: null,
  },
  vermagic: '6.1.0-56-amd64 SMP preempt mod_unload modversions',
  marks: { retpoline: 'Y' },
  signatureHash: 'sha256',
  buildDirectory: '/usr/src/linux-headers-6.1.0-56-amd64',
  sourceDirectory: '/usr/src/linux-headers-6.1.0-56-common',
  missing: [],
  hostPrograms: { arches: ['x86_64'], glibc: '2.34' },
};

export const dkmsSource: Source = {
  digest: digestOf('source'),
  tree: digestOf('source tree'),
  name: 'hello',
  version: '1.0',
  kind: 'dkms',
  autoinstall: false,
  depends: [],
  needs: [],
  hasRust: false,
  settings: {},
  files: {},
};

/** The variables of a conf; a bare word stands for the value at index 0. */
export type ConfVariables = Readonly<Record<string, string | Readonly<Record<number, string>>>>;

/** A conf as bash would evaluate it. */
export const evaluatedConf = (variables: ConfVariables): EvaluatedConf =>
  new Map(
    Object.entries(variables).map(([name, value]) => [
      name,
      new Map(
        Object.entries(typeof value === 'string' ? { 0: value } : value).map(
          ([index, text]): [number, string] => [Number(index), text],
        ),
      ),
    ]),
  );

/** A program as a header tree has it: an ELF header for a machine of elf.h, and the strings among its symbols. */
export const hostProgram = (machine: number, ...strings: readonly string[]): Buffer => {
  const header = Buffer.alloc(64);
  header.write('\x7fELF\x02\x01\x01', 'latin1');
  header.writeUInt16LE(machine, 18);
  return Buffer.concat([header, Buffer.from(`\0${strings.map((text) => `${text}\0`).join('')}`)]);
};

/** A kernel module for x86_64 that has a `.modinfo` of these pairs, CRCs of these symbols, and nothing else. */
export const moduleBytes = (
  modinfo: readonly string[],
  versions: Readonly<Record<string, number>> = {},
): Buffer => {
  const names = Buffer.from('\0.modinfo\0.shstrtab\0__versions\0');
  const info = Buffer.from(modinfo.map((pair) => `${pair}\0`).join(''));
  const crcs = Buffer.alloc(64 * Object.keys(versions).length);
  for (const [index, [symbol, crc]] of Object.entries(versions).entries()) {
    crcs.writeUInt32LE(crc, 64 * index);
    crcs.write(symbol, 64 * index + 8);
  }
  const header = Buffer.alloc(64);
  header.write('\x7fELF\x02\x01\x01', 'latin1');
  header.writeUInt16LE(1, 16);
  header.writeUInt16LE(62, 18);
  header.writeUInt32LE(1, 20);
  header.writeUInt32LE(64 + names.length + info.length + crcs.length, 40);
  [64, 0, 0, 64, 4, 2].forEach((value, index) => header.writeUInt16LE(value, 52 + 2 * index));
  const section = (name: number, type: number, offset: number, size: number): Buffer => {
    const bytes = Buffer.alloc(64);
    bytes.writeUInt32LE(name, 0);
    bytes.writeUInt32LE(type, 4);
    bytes.writeUInt32LE(offset, 24);
    bytes.writeUInt32LE(size, 32);
    return bytes;
  };
  return Buffer.concat([
    header,
    names,
    info,
    crcs,
    section(0, 0, 0, 0),
    section(1, 1, 64 + names.length, info.length),
    section(10, 3, 64, names.length),
    section(20, 1, 64 + names.length + info.length, crcs.length),
  ]);
};

/** A build that succeeded, as the service shows it, with what is given. */
export const builtView = (
  given: Pick<BuildView, 'id' | 'fingerprint' | 'source' | 'kernel'> & Partial<BuildView>,
): BuildView => ({
  state: 'succeeded',
  attempt: 1,
  toolchain: { digest: digestOf('toolchain'), name: 'gcc' },
  inputs: {},
  recipe: null,
  modules: [],
  signature: { kind: 'unsigned', reason: 'policy' },
  dependencies: [],
  exclusion: null,
  stale: null,
  failure: null,
  log: null,
  attestation: null,
  timings: null,
  madeBy: { id: 'token', name: 'ci' },
  withdrawn: null,
  createdAt: 0,
  startedAt: null,
  finishedAt: null,
  ...given,
});

/** The inputs of a build of a source for Debian's kernel, without dependencies or settings of a request. */
export const sampleInputs = (source: Source, script: Digest): FingerprintInputs =>
  fingerprintInputs(
    {
      source,
      kernel: debianKernel,
      toolchain: digestOf('toolchain'),
      waived: [],
      dependencies: [],
      settings: {},
    },
    script,
  );
