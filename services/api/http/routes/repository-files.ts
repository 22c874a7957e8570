import { Router, type Request, type Response } from 'express';
import { toDigest } from '../../../core/digest.ts';
import { KilnError } from '../../../core/errors.ts';
import { REPOSITORY_FORMATS } from '../../../core/packages/plan.ts';
import { CHANNELS, type RepositoryName } from '../../../core/repository/repository.ts';
import type { ApiDeps } from '../deps.ts';
import { findIndexFile, findPublishedFile } from '../../record/repositories.ts';
import { openRoute } from '../route.ts';
import { sendBlob } from '../send-blob.ts';

/**
 * `/repo`: what package managers read, for whoever reaches the service, without a token: an admin published it. What is in it is signed.
 *
 *   /repo/key.asc                      the key that signs
 *   /repo/deb/dists/SUITE/…            an apt repository's index; SUITE-staging for those who try first
 *   /repo/deb/pool/SOURCE/FILE         its packages
 *   /repo/rpm/dists/SUITE/…            a repository for dnf and zypper, its packages in pool/ there
 *   /repo/kmp/dists/SUITE/…            the same of packages that track the kABI
 */
export const repositoryFileRoutes = (deps: ApiDeps): Router => {
  const { db, blobs } = deps;
  const router = Router();

  router.get('/repo/key.asc', (_request, response) => {
    response.type('application/pgp-keys').send(deps.repositoryKey);
  });

  router.get(
    '/repo/:format/dists/:suite/*path',
    openRoute(async (request, response) => {
      const of = named(request);
      const path = pathOf(request);
      const hex = HASHED.exec(path)?.slice(1).find(Boolean);
      const isForEver = hex !== undefined || path.startsWith(POOL);
      const found =
        of === null
          ? undefined
          : await findIndexFile(db, of, hex === undefined ? { path } : { digest: toDigest(hex) });
      if (found === undefined) throw absent(request);
      const lastModified = Math.floor(found.madeAt / 1000) * 1000;
      response.set({ 'Last-Modified': new Date(lastModified).toUTCString() });
      const isKnown = Date.parse(request.get('If-Modified-Since') ?? '') >= lastModified;
      if (!isForEver && isKnown && request.get('Range') === undefined) {
        response.status(304).end();
        return;
      }
      await send(found.digest, isForEver, request, response);
    }),
  );

  router.get(
    '/repo/deb/pool/:source/:file',
    openRoute(async (request, response) => {
      const digest = await findPublishedFile(db, 'deb', String(request.params['file']));
      if (digest === null) throw absent(request);
      await send(digest, true, request, response);
    }),
  );

  const send = async (
    digest: Parameters<typeof blobs.find>[0],
    isForEver: boolean,
    request: Request,
    response: Response,
  ): Promise<void> => {
    const info = await blobs.find(digest);
    if (info === null) throw absent(request);
    await sendBlob(blobs, info, request, response, isForEver ? 'for ever' : 'asked each time');
  };
  return router;
};

/** Paths with a digest in them: apt's by-hash, and how lists of RPM repositories are called. They are there for the generations before, too. */
const HASHED = /(?:^|\/)by-hash\/SHA256\/([0-9a-f]{64})$|^repodata\/([0-9a-f]{64})-[a-z]+\.xml$/;

/** Where dnf and zypper look for packages: below their repository. */
const POOL = 'pool/';

const absent = (request: Request): KilnError =>
  new KilnError('not-found', `there is no ${request.path} in what is published`);

const formatOf = (request: Request): RepositoryName['format'] | null =>
  REPOSITORY_FORMATS.find((each) => each === request.params['format']) ?? null;

/** The repository that an address names: `bookworm`, `bookworm-staging`. */
const named = (request: Request): RepositoryName | null => {
  const format = formatOf(request);
  const text = String(request.params['suite']);
  if (format === null) return null;
  const channel = CHANNELS.find((each) => text.endsWith(`-${each}`)) ?? 'stable';
  const suite = channel === 'stable' ? text : text.slice(0, -channel.length - 1);
  return { format, suite, channel };
};

const pathOf = (request: Request): string => {
  const parts: unknown = request.params['path'];
  return Array.isArray(parts) ? parts.join('/') : String(parts);
};
