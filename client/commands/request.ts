import { CONTRACT_PARTS, type ContractPart } from '../../services/core/kernel/compiler-contract.ts';
import { isDigest } from '../../services/core/digest.ts';
import { KilnError } from '../../services/core/errors.ts';
import type { CreateBuild } from '../../services/core/protocol/build.ts';
import { nameKernel, nameSource } from '../ask/ask.ts';
import { listOption, type Context } from '../command.ts';
import { readSettings, sourceClaims, SOURCE_OPTIONS } from './source.ts';

/** Options that name what is to be built. */
export const BUILD_OPTIONS = {
  ...SOURCE_OPTIONS,
  kernel: { type: 'string', short: 'k' },
  toolchain: { type: 'string' },
  waive: { type: 'string' },
  retry: { type: 'boolean' },
} as const;

/** The parts of the compiler contract that `--waive` names. Throws `bad-request`. */
export const contractParts = (context: Context): readonly ContractPart[] =>
  (listOption(context, 'waive') ?? []).map((part) => {
    const known = CONTRACT_PARTS.find((each) => each === part);
    if (known === undefined)
      throw new KilnError('bad-request', `--waive takes ${CONTRACT_PARTS.join(', ')}`);
    return known;
  });

/** The request for one source and one kernel that a command line means. Trees that it names are sent first. */
export const namedRequest = async (
  context: Context,
  sourceName: string,
  kernelName: string,
): Promise<CreateBuild> => {
  const toolchain = context.option('toolchain');
  if (toolchain !== undefined && !isDigest(toolchain))
    throw new KilnError(
      'bad-request',
      '--toolchain takes a digest; kiln toolchain list shows them',
    );
  return {
    source: await nameSource(context, sourceName, sourceClaims(context)),
    kernel: await nameKernel(context, kernelName, await context.host()),
    waive: [...contractParts(context)],
    settings: (await readSettings(context)) ?? {},
    retry: context.flag('retry'),
    background: context.flag('background'),
    ...(toolchain === undefined ? {} : { toolchain }),
  };
};
