import type { Request } from 'express';
import { Busboy } from '@fastify/busboy';
import type { Readable } from 'node:stream';
import { isDigest, type Digest } from '../core/digest.ts';
import { KilnError } from '../core/errors.ts';
import type { Role } from '../core/policy.ts';
import { CreateSource } from '../core/protocol.ts';
import type { BlobInfo } from '../storage/blobs.ts';
import type { ApiDeps } from './deps.ts';
import { ingestKernel, ingestSource } from './ingest.ts';
import type { BuildRequest } from './resolve-build.ts';

const FILES = ['source', 'headers'];
const FIELDS = ['name', 'version', 'toolchain'];

/**
 * Reads a multipart form with two tarballs, `source` and `headers` (and, if wanted, the fields `name`, `version`, `toolchain`), and takes
 * both in. Throws what `ingest.ts` throws, or `bad-request` if a part is missing or unknown; then neither is kept.
 */
export const readUploadedBuild = async (
  request: Request,
  deps: ApiDeps,
  role: Role,
): Promise<BuildRequest> => {
  const { files, fields } = await readForm(request, deps);
  const blobs = [...files.values()];
  const dropOthers = async (): Promise<void> => {
    for (const { digest } of blobs)
      if (!(await isUsed(deps, digest))) await deps.blobs.remove(digest);
  };
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
    const kernel = await ingestKernel(deps, headers.digest, role);
    const { digest } = await ingestSource(deps, source.digest, role, named);
    return {
      source: { digest },
      kernel: { digest: kernel.digest },
      ...(toolchain === undefined ? {} : { toolchain }),
      retry: false,
    };
  } catch (error) {
    await dropOthers();
    throw error;
  }
};

const isUsed = async ({ db }: ApiDeps, blob: Digest): Promise<boolean> => {
  const source = await db
    .selectFrom('sources')
    .select('digest')
    .where('blob', '=', blob)
    .executeTakeFirst();
  const kernel = await db
    .selectFrom('kernels')
    .select('digest')
    .where('blob', '=', blob)
    .executeTakeFirst();
  return source !== undefined || kernel !== undefined;
};

interface Form {
  readonly files: ReadonlyMap<string, BlobInfo>;
  readonly fields: ReadonlyMap<string, string>;
}

const readForm = async (request: Request, deps: ApiDeps): Promise<Form> => {
  const contentType = request.headers['content-type'] ?? '';
  const files = new Map<string, Promise<BlobInfo>>();
  const fields = new Map<string, string>();
  let problem: KilnError | null = null;
  const refuse = (message: string): void => {
    problem ??= new KilnError('bad-request', message);
  };
  const form = openForm(contentType);
  form.on('file', (name: string, bytes: Readable) => {
    if (!FILES.includes(name) || files.has(name)) {
      refuse(
        `the form has a file ${JSON.stringify(name.slice(0, 40))}; it takes ${FILES.join(' and ')}, once each`,
      );
      bytes.resume();
      return;
    }
    const stored = deps.blobs.put(bytes, { limit: deps.blobLimit });
    // A failed upload is reported below; until then the rest of the form is read and dropped.
    stored.catch(() => bytes.resume());
    files.set(name, stored);
  });
  form.on('field', (name: string, value: string) => {
    if (FIELDS.includes(name)) fields.set(name, value);
    else
      refuse(
        `the form has a field ${JSON.stringify(name.slice(0, 40))}; it takes ${FIELDS.join(', ')}`,
      );
  });
  const isRead = await new Promise<boolean>((resolve) => {
    form.once('finish', () => resolve(true));
    form.once('error', () => resolve(false));
    request.once('aborted', () => resolve(false));
    request.pipe(form);
  });
  if (!isRead) refuse('the form is broken or cut short; send it again');
  const stored = new Map<string, BlobInfo>();
  const failures: unknown[] = [];
  for (const [name, upload] of files) {
    if (!isRead) {
      upload.catch(() => {});
      continue;
    }
    await upload.then(
      (info) => stored.set(name, info),
      (error: unknown) => failures.push(error),
    );
  }
  if (failures.length > 0) throw failures[0];
  if (problem !== null) {
    for (const { digest } of stored.values())
      if (!(await isUsed(deps, digest))) await deps.blobs.remove(digest);
    throw problem as KilnError;
  }
  return { files: stored, fields };
};

const openForm = (contentType: string): InstanceType<typeof Busboy> => {
  try {
    return new Busboy({
      headers: { 'content-type': contentType },
      limits: { files: FILES.length + 1, fields: FIELDS.length + 1, fieldSize: 256, parts: 8 },
    });
  } catch (cause) {
    throw new KilnError('bad-request', 'the form has no boundary', { cause });
  }
};
