import { SOURCE_DATE_EPOCH } from '../core/build/build-environment.ts';
import type { Digest } from '../core/digest.ts';
import type { PackagePlan } from '../core/packages/plan.ts';
import { erofsImage, type ErofsFile } from './erofs.ts';

/** Reads a stored blob. */
export type ReadBlob = (digest: Digest) => Promise<Buffer>;

/** The bytes of a package whose format no packer is needed for: they follow from its plan alone. */
export const composePackage = async (plan: PackagePlan, read: ReadBlob): Promise<Buffer> => {
  const files: ErofsFile[] = [];
  for (const { place, content, executable } of plan.files)
    files.push({
      path: place,
      bytes: await bytesOf(content, read),
      mode: executable === true ? 0o755 : 0o644,
    });
  return erofsImage(files, SOURCE_DATE_EPOCH);
};

const bytesOf = async (
  content: PackagePlan['files'][number]['content'],
  read: ReadBlob,
): Promise<Buffer> => {
  if ('blob' in content) return read(content.blob);
  if ('text' in content) return Buffer.from(content.text);
  throw new TypeError('nothing is packed with gzip without a packer');
};
