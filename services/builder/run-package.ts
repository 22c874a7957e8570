import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { BUILD_PATH, SOURCE_DATE_EPOCH } from '../core/build/build-environment.ts';
import { digestOf, hexOf } from '../core/digest.ts';
import { KilnError } from '../core/errors.ts';
import type { BuilderJob, Outcome } from '../core/jobs/jobs.ts';
import { isComposed } from '../core/packages/packers.ts';
import { packageFingerprint, type PackagePlan } from '../core/packages/plan.ts';
import type { Blobs } from '../storage/blobs.ts';
import { composePackage } from '../storage/compose-package.ts';
import type { ImageCache } from './image-cache.ts';
import { createPieces } from './pieces.ts';
import { SandboxLimitReached, type Sandbox } from './sandbox.ts';
import type { TreeCache } from './tree-cache.ts';

type PackageJob = Extract<BuilderJob, { kind: 'package' }>;

/** What making a package needs. */
export interface PackageDeps {
  readonly blobs: Blobs;
  readonly trees: Pick<TreeCache, 'planned'>;
  readonly images: ImageCache;
  readonly sandbox: Sandbox;
  readonly prefix: string;
  /** `images/package`. */
  readonly script: string;
}

const FILE_LIMIT = 1024 ** 3;
const LAST_WORDS = 2000;

/** Makes a package of its plan. A packer that fails is an outcome; a machine that fails is an exception. */
export const runPackage = async (
  job: PackageJob,
  deps: PackageDeps,
  signal: AbortSignal,
): Promise<Outcome> => {
  const { package: id, attempt, plan, toolchain } = job;
  const store = async (bytes: Buffer): Promise<Outcome> => {
    const stream = Readable.from([bytes], { objectMode: false });
    const { digest, size } = await deps.blobs.put(stream, { limit: bytes.length });
    return { kind: 'packed', package: id, attempt, digest, size };
  };
  if (isComposed(plan.format))
    return store(await composePackage(plan, (digest) => deps.blobs.read(digest, FILE_LIMIT)));
  if (digestOf(deps.script) !== job.script)
    throw new Error('this builder’s packing script is not the coordinator’s; update both');
  const label = `${deps.prefix}.package-${id}`;
  await deps.sandbox.clear(`kiln.build=${label}`);
  const [image, from] = await Promise.all([
    deps.images.get(toolchain),
    deps.trees.planned(packageFingerprint(plan, toolchain, job.script), (at) =>
      layPlan(plan, at, deps.blobs),
    ),
  ]);
  const packed = createPieces();
  const said = createPieces();
  const unpackable = (problem: string): Outcome => ({
    kind: 'unpackable',
    package: id,
    attempt,
    problem,
  });
  try {
    const { exitCode } = await deps.sandbox.run(
      {
        image,
        script: deps.script,
        args: [plan.format, plan.arch],
        environment: {
          HOME: '/tmp',
          PATH: BUILD_PATH,
          LC_ALL: 'C',
          TZ: 'UTC',
          SOURCE_DATE_EPOCH: String(SOURCE_DATE_EPOCH),
        },
        mounts: [{ from, at: '/package' }],
        workplaces: ['/pack'],
        labels: { 'kiln.build': label },
      },
      {
        log: (piece) => said.add(Buffer.from(piece)),
        output: (piece) => packed.add(Buffer.from(piece)),
      },
      signal,
    );
    if (exitCode !== 0)
      return unpackable(
        `${plan.file} could not be packed (exit status ${exitCode}): ${said.whole().toString('utf8').trim().slice(-LAST_WORDS)}`,
      );
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof SandboxLimitReached)
      return unpackable(`${plan.file}: ${error.message}, the limit of this builder`);
    throw error;
  }
  return store(packed.whole());
};

/** Lays down what the script packs: the files at their places, and what the packer is told besides. */
const layPlan = async (plan: PackagePlan, at: string, blobs: Blobs): Promise<void> => {
  const put = async (path: string, bytes: Buffer | string, mode = 0o644): Promise<void> => {
    const file = join(at, path);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, bytes, { mode, flag: 'wx' });
  };
  await mkdir(join(at, 'files'));
  for (const { place, content, executable } of plan.files) {
    const mode = executable === true ? 0o755 : 0o644;
    if ('blob' in content) {
      const bytes = await blobs.read(content.blob, FILE_LIMIT).catch((cause: unknown) => {
        if (!(cause instanceof KilnError) || cause.code !== 'not-found') throw cause;
        throw new Error(`${place} of ${plan.file} is not stored: ${hexOf(content.blob)}`, {
          cause,
        });
      });
      await put(`files${place}`, bytes, mode);
    } else if ('text' in content) await put(`files${place}`, content.text, mode);
    else if ('gzip' in content) await put(`files${place}`, content.gzip, mode);
    else throw new TypeError(`${place} of ${plan.file} is nothing that a packer packs`);
  }
  for (const [name, text] of Object.entries(plan.control))
    await put(`control/${name}`, text, isScript(text) ? 0o755 : 0o644);
  const packed = plan.files.flatMap(({ place, content }) =>
    'gzip' in content ? `${place}\n` : [],
  );
  await put('gzip', packed.join(''));
};

/** Whether a text is a program for a shell. */
const isScript = (text: string): boolean => text.startsWith('#!');
