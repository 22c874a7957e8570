import { expect } from '@jest/globals';
import type { SyncView } from '../../services/core/protocol/archive.ts';
import { startKiln } from './kiln-service.ts';
import { freshDirectory } from './make-source.ts';
import { repoFile, rpmRepository, smallPackage } from './rpm-repository.ts';
import type { Ran } from './run.ts';
import { makeKey, type SigningKey } from './signing-keys.ts';

/** The packages that are followed. */
const HEADERS = 'kernel-devel-(?<release>.+)';

/** What is said once everything was verified: that the small package is no headers. */
export const BELIEVED = /^5\.14\.0-1\.el9\.x86_64: .*headers/;

/** A Kiln that follows one RPM repository at a time, in which there is one small package, and what it says of it. */
export interface MirrorFollower {
  /** The distribution's key, and somebody's. */
  readonly key: SigningKey;
  readonly stranger: SigningKey;
  readonly small: string;
  /** A repository of the package, signed by the distribution: the package alone, or the metadata, too. */
  unsigned(): Promise<string>;
  signed(): Promise<string>;
  /** Adds the repository at an address as an admin does, described with further settings. */
  add(base: string, settings?: string, key?: SigningKey): Promise<Ran>;
  /** What the next look says; no kernel may have come of it. */
  look(): Promise<string>;
  /** Both. */
  lookAt(base: string, settings?: string, key?: SigningKey): Promise<string>;
  /** Both, of a directory whose metadata is not signed: what is changed in it, nothing but what is in it can betray. */
  lookAtUnsigned(directory: string): Promise<string>;
  stop(): Promise<unknown>;
}

export const startMirrorFollower = async (): Promise<MirrorFollower> => {
  const kiln = await startKiln(await freshDirectory('mirrors'), { KILN_LOG_LEVEL: 'warn' });
  const [key, stranger] = [await makeKey('Distribution'), await makeKey('Stranger')];
  const small = await smallPackage();
  const add: MirrorFollower['add'] = async (base, settings = '', keys = key) => {
    const repo = await repoFile(base, keys, settings);
    return kiln.kiln('archive', 'add', 'mirror', '--repo', repo, '--headers', HEADERS);
  };
  const look = async (): Promise<string> => {
    const { status, stdout } = await kiln.kiln('kernel', 'sync', '--json', '-q');
    const { kernels, problems } = JSON.parse(stdout) as SyncView;
    expect([status, kernels]).toEqual([1, []]);
    return problems.join('\n');
  };
  const lookAt: MirrorFollower['lookAt'] = async (...repository) => {
    expect(await add(...repository)).toMatchObject({ status: 0 });
    return look();
  };
  return {
    key,
    stranger,
    small,
    unsigned: () => rpmRepository([small], { packages: key, metadata: null }),
    signed: () => rpmRepository([small], { packages: key, metadata: key }),
    add,
    look,
    lookAt,
    lookAtUnsigned: (directory) => lookAt(`file://${directory}`, 'repo_gpgcheck=0'),
    stop: () => kiln.stop(),
  };
};
