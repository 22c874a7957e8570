import { digestOf } from '../../services/core/digest.ts';
import { fingerprintInputs, fingerprintOf } from '../../services/core/fingerprint.ts';
import type { BuildView } from '../../services/core/protocol.ts';
import { debianKernel, dkmsSource, moduleBytes } from '../unit/samples.ts';

const { vermagic } = debianKernel;

/** A build of the module `hello`, as the service would show it, and the module's bytes. */
export const built = (
  version: string,
  mayLink = true,
): { readonly build: BuildView; readonly bytes: Buffer } => {
  const bytes = moduleBytes(['name=hello', `vermagic=${vermagic}`, `version=${version}`]);
  const inputs = fingerprintInputs(
    {
      source: { ...dkmsSource, version },
      kernel: debianKernel,
      toolchain: digestOf('toolchain'),
      waived: [],
      dependencies: [],
      settings: {},
    },
    digestOf('script'),
  );
  const build: BuildView = {
    id: version,
    fingerprint: fingerprintOf(inputs),
    state: 'succeeded',
    attempt: 1,
    source: { digest: dkmsSource.digest, name: dkmsSource.name, version },
    kernel: { ...debianKernel },
    toolchain: { digest: digestOf('toolchain'), name: 'gcc' },
    inputs: { ...inputs },
    recipe: { mayLink },
    modules: [
      { name: 'hello', unsigned: digestOf(bytes), signed: null, size: bytes.length, modinfo: [] },
    ],
    signature: { kind: 'unsigned', reason: 'policy' },
    dependencies: [],
    exclusion: null,
    stale: null,
    failure: null,
    log: null,
    attestation: null,
    timings: null,
    createdAt: 0,
    startedAt: null,
    finishedAt: null,
  };
  return { build, bytes };
};
