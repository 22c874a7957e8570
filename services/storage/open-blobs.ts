import type { BlobPlace } from './blob-place.ts';
import { openBlobDirectory, type Blobs } from './blobs.ts';

/** Opens the blobs that are kept in a place, which is made if it is a directory. What S3 needs is loaded where a bucket is named. */
export const openBlobs = async (place: BlobPlace): Promise<Blobs> => {
  switch (place.kind) {
    case 'directory':
      return openBlobDirectory(place.directory);
    case 's3': {
      const { openS3Blobs } = await import('./s3-blobs.ts');
      return openS3Blobs(place);
    }
  }
};
