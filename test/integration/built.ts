import { expect } from '@jest/globals';
import type { Context } from '../../client/command.ts';
import type { Host } from '../../client/host/host.ts';
import { installAll } from '../../client/install/install.ts';
import type { Granted } from '../../client/install/wish.ts';
import { digestOf } from '../../services/core/digest.ts';
import { fingerprintInputs, fingerprintOf } from '../../services/core/build/fingerprint.ts';
import type { BuildView } from '../../services/core/protocol/build.ts';
import type { Withdrawal } from '../../services/core/policy/withdrawal.ts';
import { builtView, debianKernel, dkmsSource, moduleBytes } from '../unit/samples.ts';

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
  const build = builtView({
    id: version,
    fingerprint: fingerprintOf(inputs),
    source: { digest: dkmsSource.digest, name: dkmsSource.name, version },
    kernel: { ...debianKernel },
    inputs: { ...inputs },
    recipe: { mayLink },
    modules: [
      { name: 'hello', unsigned: digestOf(bytes), signed: null, size: bytes.length, modinfo: [] },
    ],
  });
  return { build, bytes };
};

/** Asks for that build on a host, for the kernel of the samples, from a service that gives it and says what is withdrawn. */
export const askForBuilt = (
  context: Context,
  host: Host,
  version: string,
  given: {
    readonly mayLink?: boolean;
    readonly mayGoDown?: boolean;
    readonly withdrawals?: readonly Withdrawal[];
  } = {},
): Promise<readonly Granted[]> => {
  const { build, bytes } = built(version, given.mayLink);
  const { release } = build.kernel;
  const request = { source: { name: 'hello' }, kernel: { release } };
  const wish = { name: 'hello', release, request, mayGoDown: given.mayGoDown ?? false };
  return installAll(context, host, [wish], {
    supply: {
      name: 'x',
      build: async () => ({ build, isCached: true }),
      dependency: async () => build,
      withdrawals: async () => given.withdrawals ?? [],
      artifact: async () => bytes,
    },
    certificate: null,
    allowUnsigned: true,
    force: false,
    forgetWithdrawals: false,
    keepDisplaced: true,
    weakUpdates: false,
    wanted: [],
    initramfs: false,
  });
};

/** Installs it. */
export const installBuilt = async (
  context: Context,
  host: Host,
  version: string,
  mayLink = true,
): Promise<void> => {
  const granted = await askForBuilt(context, host, version, { mayLink });
  expect(granted).toMatchObject([{ problem: null }]);
};
