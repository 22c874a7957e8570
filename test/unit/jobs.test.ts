import { describe, expect, it } from '@jest/globals';
import { digestOf } from '../../services/core/digest.ts';
import {
  buildIdOf,
  fingerprintInputs,
  fingerprintOf,
} from '../../services/core/build/fingerprint.ts';
import {
  BuilderJob,
  MODINFO_LIMIT,
  Outcome,
  SignJob,
  WORDS_LIMIT,
} from '../../services/core/jobs/jobs.ts';
import { checkModuleToSign, checkSignJob } from '../../services/core/jobs/sign-check.ts';
import { debianKernel, dkmsSource, moduleBytes, refusal } from './samples.ts';

const script = digestOf('script');
const inputs = fingerprintInputs(
  {
    source: dkmsSource,
    kernel: debianKernel,
    toolchain: digestOf('toolchain'),
    waived: [],
    dependencies: [],
    settings: { '/etc/dkms/hello.conf': 'a=b' },
  },
  script,
);
const fingerprint = fingerprintOf(inputs);
const run = { build: buildIdOf(fingerprint), attempt: 0 };
const origin = {
  blob: digestOf('blob'),
  layout: [{ from: 'a', to: 'usr/src/x', headersOnly: true }],
};
const buildJob = {
  kind: 'build',
  ...run,
  rebuild: null,
  source: { ...dkmsSource, ...origin },
  kernel: { ...debianKernel, ...origin },
  toolchain: digestOf('toolchain'),
  dependencies: [],
  settings: {},
  inputs,
};
const recipe = {
  steps: [{ label: 'make', command: 'make', kind: 'one' }],
  modules: { kind: 'listed', list: [{ path: 'src/hello.ko', name: 'renamed', strip: true }] },
  mayLink: true,
  passedOver: [],
};
const signJob = {
  kind: 'sign',
  ...run,
  fingerprint,
  hash: 'sha256',
  inputs,
  recipe,
  modules: [{ name: 'renamed', unsigned: digestOf('module') }],
};
const builtModule = { ...signJob.modules[0], size: 1, modinfo: [['name', 'hello']] };
const built = {
  kind: 'built',
  ...run,
  recipe,
  modules: [builtModule],
  exports: digestOf('exports'),
  log: digestOf('log'),
  timings: { prepare: 0, sandbox: 1, check: 2 },
};
const failure = { code: 'timed-out', message: 'too long', lines: ['a'] };

describe('messages between the roles', () => {
  it('are read as they were written', () => {
    expect(BuilderJob.parse(JSON.parse(JSON.stringify(buildJob)))).toEqual(buildJob);
    expect(SignJob.parse(JSON.parse(JSON.stringify(signJob)))).toEqual(signJob);
    expect(Outcome.parse(JSON.parse(JSON.stringify(built)))).toEqual(built);
  });

  it.each([
    ['a blob that is a path', { ...buildJob, source: { ...buildJob.source, blob: '../../x' } }],
    [
      'a source whose name is a path',
      { ...buildJob, source: { ...buildJob.source, name: '../x' } },
    ],
    [
      'a kernel whose release is a path',
      { ...buildJob, kernel: { ...buildJob.kernel, release: '6.1/../..' } },
    ],
    [
      'a layout that leaves the tree',
      { ...buildJob, source: { ...buildJob.source, layout: [{ from: '', to: '../../etc' }] } },
    ],
    [
      'a directory outside',
      { ...buildJob, kernel: { ...buildJob.kernel, buildDirectory: '/usr/../etc' } },
    ],
    ['a settings file elsewhere', { ...buildJob, settings: { '/etc/passwd': '' } }],
    ['a build that is a path', { ...buildJob, build: '../' }],
    [
      'a rebuild that is a path',
      { ...buildJob, rebuild: 'rebuild-../../../../../../../../../../../x' },
    ],
    ['a field that nobody knows', { ...buildJob, more: 1 }],
    ['a toolchain that is no digest', { kind: 'measure', toolchain: 'sha256:x', attempt: 0 }],
  ])('a builder’s job is refused with %s', (_, job) => {
    expect(BuilderJob.safeParse(job).success).toBe(false);
  });

  it.each([
    ['a module whose name is a path', { ...built, modules: [{ ...builtModule, name: '../x' }] }],
    ['two modules of one name', { ...built, modules: [builtModule, builtModule] }],
    ['no module', { ...built, modules: [] }],
    [
      'more modules than there may be',
      {
        ...built,
        modules: Array.from({ length: 257 }, (__, at) => ({ ...builtModule, name: `m${at}` })),
      },
    ],
    [
      'more modinfo than there may be',
      { ...built, modules: [{ ...builtModule, modinfo: [['parm', 'x'.repeat(MODINFO_LIMIT)]] }] },
    ],
    ['exports that are a path', { ...built, exports: '/etc/shadow' }],
    ['an attempt that is no number', { ...built, attempt: '0' }],
    [
      'more words than there may be',
      {
        kind: 'failed',
        ...run,
        failure: { ...failure, message: 'x'.repeat(WORDS_LIMIT + 1) },
        log: null,
      },
    ],
    [
      'a failure that nobody knows',
      { kind: 'failed', ...run, failure: { ...failure, code: 'x' }, log: null },
    ],
    ['a kind that nobody knows', { kind: 'signer', key: 'x', certificate: 'y' }],
  ])('an outcome is refused with %s', (_, outcome) => {
    expect(Outcome.safeParse(outcome).success).toBe(false);
  });
});

describe('what a signer makes sure of', () => {
  const job = SignJob.parse(signJob);
  const { vermagic } = debianKernel;
  const bytes = (...pairs: string[]): Buffer => moduleBytes(pairs);

  it('is met by a build as it was resolved and built', () => {
    expect(() => checkSignJob(job, script)).not.toThrow();
    const made = bytes('name=hello', `vermagic=${vermagic} `);
    expect(() => checkModuleToSign(made, 'renamed', job)).not.toThrow();
  });

  it.each([
    [
      'a fingerprint of other inputs',
      { fingerprint: digestOf('other') },
      /fingerprint does not match its inputs/,
    ],
    [
      'inputs that were changed',
      { inputs: { ...inputs, toolchain: digestOf('other') } },
      /fingerprint does not match/,
    ],
    ['another build’s id', { build: 'f'.repeat(24) }, /id does not match its fingerprint/],
    [
      'a module that its recipe does not make',
      { modules: [{ name: 'evil', unsigned: digestOf('') }] },
      /makes no module evil/,
    ],
    ['a module twice', { modules: [signJob.modules[0], signJob.modules[0]] }, /the same name/],
  ])('keeps it from signing with %s', (_, change, words) => {
    expect(() => checkSignJob({ ...job, ...change } as SignJob, script)).toThrow(
      refusal('unverified', words),
    );
  });

  it('keeps it from signing what another build script made', () => {
    expect(() => checkSignJob(job, digestOf('other'))).toThrow(
      refusal('unverified', /build script/),
    );
  });

  it.each([
    ['no module at all', Buffer.from('#!/bin/sh\n'), /not ELF/],
    ['a module of another name', bytes('name=evil', `vermagic=${vermagic}`), /calls itself "evil"/],
    [
      'a module for another kernel',
      bytes('name=hello', 'vermagic=6.1.0-57-amd64 SMP'),
      /kernel "6.1.0-57-amd64", not 6.1.0-56-amd64/,
    ],
    ['a module without a vermagic', bytes('name=hello'), /for kernel ""/],
    [
      'a module for another CPU',
      Object.assign(bytes('name=hello', `vermagic=${vermagic}`), { 18: 183 }),
      /for aarch64, not x86_64/,
    ],
    [
      'a program',
      Object.assign(bytes('name=hello', `vermagic=${vermagic}`), { 16: 2 }),
      /no relocatable object/,
    ],
    [
      'what is signed already',
      Buffer.concat([
        bytes('name=hello', `vermagic=${vermagic}`),
        Buffer.alloc(2),
        Buffer.from([2]),
        Buffer.alloc(9),
        Buffer.from('~Module signature appended~\n'),
      ]),
      /is signed already/,
    ],
  ])('keeps it from signing %s', (_, made, words) => {
    expect(() => checkModuleToSign(made, 'renamed', job)).toThrow(refusal('unverified', words));
  });
});
