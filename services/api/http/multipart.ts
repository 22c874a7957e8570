import type { Request } from 'express';
import { Busboy } from '@fastify/busboy';
import type { Readable } from 'node:stream';
import { isDigest } from '../../core/digest.ts';
import { KilnError } from '../../core/errors.ts';
import { CreateSource } from '../../core/protocol/source.ts';
import type { BlobInfo } from '../../storage/blobs.ts';
import type { ApiDeps } from './deps.ts';
import { ingestSource, voucher } from '../record/ingest.ts';
import type { Caller } from '../record/tokens.ts';
import { ingestKernel } from '../record/ingest-kernel.ts';
import type { BuildRequest } from '../record/resolve-build.ts';
import { dropUpload, storeUpload } from '../record/uploads.ts';

const FILES = ['source', 'headers'];
const FIELDS = ['name', 'version', 'toolchain'];

/**
 * Reads a multipart form with two tarballs, `source` and `headers` (and, if wanted, the fields `name`, `version`, `toolchain`), and takes
 * both in. Throws what `ingest.ts` throws, or `bad-request` if a part is missing or unknown; then neither is kept.
 */
export const readUploadedBuild = async (
  request: Request,
  deps: ApiDeps,
  caller: Caller,
): Promise<BuildRequest> => {
  const { files, fields } = await readForm(request, deps, caller);
  const unused = new Set([...files.values()].map(({ digest }) => digest));
  try {
    const [source, headers] = FILES.map((name) => files.get(name));
    if (source === undefined || headers === undefined) {
      throw new KilnError(
        'bad-request',
        `the form needs two files, ${FILES.join(' and ')}; it has ${[...files.keys()].join(', ') || 'none'}`,
      );
    }
    const toolchain = fields.get('toolchain');
    if (toolchain !== undefined && !isDigest(toolchain))
      throw new KilnError('bad-request', 'toolchain: expected sha256: and 64 hex digits');
    const named = CreateSource.parse({
      blob: source.digest,
      name: fields.get('name'),
      version: fields.get('version'),
    });
    unused.delete(headers.digest);
    const kernel = await ingestKernel(deps, headers.digest, voucher(caller));
    unused.delete(source.digest);
    const { digest } = await ingestSource(deps, source.digest, caller, named);
    return {
      source: { digest },
      kernel: { digest: kernel.digest },
      ...(toolchain === undefined ? {} : { toolchain }),
      waive: [],
      settings: {},
      retry: false,
      background: false,
    };
  } finally {
    for (const blob of unused) await dropUpload(deps, blob, caller);
  }
};

interface Form {
  readonly files: ReadonlyMap<string, BlobInfo>;
  readonly fields: ReadonlyMap<string, string>;
}

/** Reads the whole form, or refuses it and keeps none of its files. */
const readForm = async (request: Request, deps: ApiDeps, caller: Caller): Promise<Form> => {
  const form = openForm(request.headers['content-type'] ?? '');
  const streams: Readable[] = [];
  const uploads = new Map<string, Promise<BlobInfo>>();
  const fields = new Map<string, string>();

  const reading = new Promise<void>((resolve, reject) => {
    const refuse = (message: string): void => reject(new KilnError('bad-request', message));
    form.on('file', (name: string, bytes: Readable) => {
      streams.push(bytes);
      bytes.on('error', () => {});
      if (!FILES.includes(name) || uploads.has(name)) {
        refuse(`the form has a file ${quote(name)}; it takes ${FILES.join(' and ')}, once each`);
        return;
      }
      const upload = storeUpload(deps, bytes, { limit: deps.blobLimit }, caller);
      upload.catch(reject);
      uploads.set(name, upload);
    });
    form.on('field', (name: string, value: string) => {
      if (FIELDS.includes(name)) fields.set(name, value);
      else refuse(`the form has a field ${quote(name)}; it takes ${FIELDS.join(', ')}`);
    });
    form.once('finish', resolve);
    form.on('error', () => refuse('the form is broken or cut short; send it again'));
    request.once('close', () => {
      if (!request.complete) refuse('the form was cut short; send it again');
    });
    request.pipe(form);
  });

  try {
    await reading;
    const files = new Map<string, BlobInfo>();
    for (const [name, upload] of uploads) files.set(name, await upload);
    return { files, fields };
  } catch (error) {
    request.unpipe(form);
    for (const stream of streams) stream.destroy(new Error('the form was refused'));
    for (const upload of uploads.values())
      await upload.then(({ digest }) => dropUpload(deps, digest, caller)).catch(() => {});
    throw error;
  }
};

const quote = (name: string): string => JSON.stringify(name.slice(0, 40));

const openForm = (contentType: string): InstanceType<typeof Busboy> => {
  try {
    return new Busboy({
      headers: { 'content-type': contentType },
      limits: { files: FILES.length + 1, fields: FIELDS.length + 1, fieldSize: 256, parts: 8 },
    });
  } catch (cause) {
    throw new KilnError(
      'bad-request',
      'the form’s Content-Type names no boundary; send it as curl -F does',
      { cause },
    );
  }
};
