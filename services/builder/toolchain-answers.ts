import { Readable } from 'node:stream';
import { buildEnvironment, SOURCE_DATE_EPOCH } from '../core/build/build-environment.ts';
import { canonicalJson } from '../core/format/canonical-json.ts';
import { digestOf, hexOf } from '../core/digest.ts';
import { KilnError } from '../core/errors.ts';
import type { BuilderJob } from '../core/jobs/jobs.ts';
import { unpackTree } from '../storage/unpack-tree.ts';
import { createPieces } from './pieces.ts';
import { SandboxLimitReached, type Sandbox } from './sandbox.ts';
import type { Mount, TreeCache } from './tree-cache.ts';

/** Milliseconds for all answers. A kernel's makefiles ask some thirty questions, which take about two seconds. */
const PATIENCE = 30_000;
const LIMITS = { entries: 1000, bytes: 4 * 1024 ** 2, pathLength: 100 };

/**
 * The toolchain's answers to the questions of a kernel's makefiles, which are the same in every build: a makefile that builds read first
 * (`images/build`), collected once in the sandbox with an empty module. Builds cannot add to it, and a kernel's own files can spoil
 * the answers for its own builds alone. Where the answers cannot be collected the makefile is empty, and builds ask for themselves.
 */
export const toolchainAnswers = async (
  { kernel, toolchain, inputs }: Extract<BuilderJob, { kind: 'build' }>,
  image: string,
  deps: { readonly trees: TreeCache; readonly sandbox: Sandbox; readonly script: string },
): Promise<Mount> => {
  const key = digestOf(canonicalJson([toolchain, kernel.digest, inputs.script]));
  const from = await deps.trees.answers(key, async (at) => {
    const tarball = createPieces();
    const patience = AbortSignal.timeout(PATIENCE);
    try {
      const { exitCode } = await deps.sandbox.run(
        {
          image,
          script: deps.script,
          args: [kernel.release],
          environment: buildEnvironment(kernel),
          mounts: await deps.trees.kernel(kernel),
          workplaces: [],
          labels: { 'kiln.answers': hexOf(key) },
        },
        {
          log: () => {},
          output(piece) {
            if (tarball.length() + piece.length > 2 * LIMITS.bytes)
              throw new KilnError('too-large', 'the toolchain’s answers are over their limit');
            tarball.add(Buffer.from(piece));
          },
        },
        patience,
      );
      if (exitCode !== 0) return;
      const bytes = Readable.from([tarball.whole()], { objectMode: false });
      await unpackTree(bytes, at, [{ from: '', to: '' }], SOURCE_DATE_EPOCH, LIMITS);
    } catch (error) {
      const isItsOwnDoing = error instanceof KilnError || error instanceof SandboxLimitReached;
      if (!isItsOwnDoing && !patience.aborted) throw error;
    }
  });
  return { from, at: '/usr/lib/kiln/answers' };
};
