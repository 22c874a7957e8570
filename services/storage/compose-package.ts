import { SOURCE_DATE_EPOCH } from '../core/build/build-environment.ts';
import type { Digest } from '../core/digest.ts';
import type { PackagePlan, PlannedFile } from '../core/packages/plan.ts';
import { erofsImage } from './erofs.ts';
import { moduleIndex } from './module-index.ts';
import { ociImage, type ImageFile } from './oci-image.ts';

/** Reads a stored blob. */
export type ReadBlob = (digest: Digest) => Promise<Buffer>;

/** The bytes of a package whose format no packer is needed for: they follow from its plan alone. */
export const composePackage = async (plan: PackagePlan, read: ReadBlob): Promise<Buffer> => {
  const files: ImageFile[] = [];
  for (const file of plan.files) files.push(await fileOf(file, read));
  const { tag = '', title = '' } = plan.control;
  if (plan.format === 'oci')
    return ociImage(
      files,
      { architecture: plan.arch, tag, title, version: plan.version },
      SOURCE_DATE_EPOCH,
    );
  const plain = files.map((file) => {
    if ('bytes' in file) return file;
    throw new TypeError(`${file.path} is a link, which no image of this format has`);
  });
  return erofsImage(plain, SOURCE_DATE_EPOCH);
};

const fileOf = async (
  { place: path, content, executable }: PlannedFile,
  read: ReadBlob,
): Promise<ImageFile> => {
  if ('link' in content) return { path, link: content.link };
  const mode = executable === true ? 0o755 : 0o644;
  return { path, mode, bytes: await bytesOf(content, read) };
};

const bytesOf = async (
  content: Exclude<PlannedFile['content'], { link: string }>,
  read: ReadBlob,
): Promise<Buffer> => {
  if ('blob' in content) return read(content.blob);
  if ('text' in content) return Buffer.from(content.text);
  if ('index' in content)
    return moduleIndex(content.index.split('\n').filter((line) => line !== ''));
  throw new TypeError('nothing is packed with gzip without a packer');
};
