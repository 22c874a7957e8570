import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { digestOf, type Digest } from '../../services/core/digest.ts';
import { KilnError } from '../../services/core/errors.ts';
import { ArchiveView, SyncView, type CreateArchive } from '../../services/core/protocol/archive.ts';
import {
  BuildTicket,
  BuildView,
  BuildWait,
  RebuildView,
  ResolvedView,
  type CreateBuild,
} from '../../services/core/protocol/build.ts';
import { PackageView, type CreatePackages } from '../../services/core/protocol/package.ts';
import {
  RepositoriesView,
  type CreatePublication,
} from '../../services/core/protocol/repository.ts';
import { CreateWithdrawal, WithdrawalView } from '../../services/core/protocol/withdrawal.ts';
import { IssuedToken, TokenView, type CreateToken } from '../../services/core/protocol/token.ts';
import { KernelView, type HostKernel } from '../../services/core/protocol/kernel.ts';
import { list, Maker, page, PAGE } from '../../services/core/protocol/parts.ts';
import { MissView, SignerView } from '../../services/core/protocol/fleet.ts';
import { SourceView } from '../../services/core/protocol/source.ts';
import { ToolchainView } from '../../services/core/protocol/toolchain.ts';
import type { Withdrawable } from '../../services/core/policy/withdrawal.ts';
import type { SourceClaims } from '../../services/core/source/source.ts';
import { ToolchainPackages } from '../../services/core/toolchain/toolchain-packages.ts';
import { download } from './download.ts';
import { isBroken } from './fault.ts';
import { readText, understand, type Call, type Send } from './http.ts';
import { keepTrying, type Patience } from './retry.ts';

/** The service as the commands see it: one function for each request that it answers. */
export interface Service {
  hasBlob(digest: Digest): Promise<boolean>;
  putBlob(digest: Digest, file: string, signal: AbortSignal): Promise<void>;
  createSource(
    blob: Digest,
    claims: SourceClaims & { readonly commit?: string | undefined },
  ): Promise<SourceView>;
  createKernel(blob: Digest): Promise<KernelView>;
  /** Records the kernel that a delta makes of another one. */
  deriveKernel(delta: Digest, base: Digest, makes: Digest): Promise<KernelView>;
  /** A kernel, or `null` if it is not here. */
  kernel(digest: Digest): Promise<KernelView | null>;
  /** Tells the service that this caller has the headers of a known kernel, too. An admin approves the kernel by that. */
  confirmKernel(digest: Digest): Promise<KernelView>;
  /** The list of a kernel's files (core/kernel/kernel-delta.ts). */
  kernelFiles(digest: Digest): Promise<string>;
  createToolchain(blob: Digest, name: string, candidate: boolean): Promise<ToolchainView>;
  /** Has the service keep the packages that a toolchain was made of. Their blobs were sent before. */
  keepPackages(toolchain: Digest, packages: ToolchainPackages): Promise<ToolchainView>;
  keptPackages(toolchain: Digest): Promise<ToolchainPackages>;
  /** A kept package's bytes, their digest checked. */
  keptPackage(toolchain: Digest, digest: Digest): Promise<Buffer>;
  promoteToolchain(digest: Digest, untried: boolean): Promise<ToolchainView>;
  retireToolchain(digest: Digest): Promise<ToolchainView>;
  rebuild(build: string): Promise<RebuildView>;
  rebuildState(rebuild: string): Promise<RebuildView>;
  /** Asks for packages of a build's signed modules: those, and what they need of the service's. */
  createPackages(build: string, wanted: CreatePackages): Promise<readonly PackageView[]>;
  package(id: string): Promise<PackageView>;
  /** The packages that a build's modules are in. */
  packagesOf(build: string): Promise<readonly PackageView[]>;
  /** What is published, and the repositories. */
  repositories(): Promise<RepositoriesView>;
  /** A text file of a repository that is served, by its path behind `/repo/FORMAT/dists/SUITE/`. */
  repositoryFile(format: string, suite: string, path: string): Promise<string>;
  publish(wanted: z.input<typeof CreatePublication>): Promise<RepositoriesView>;
  unpublish(source: string): Promise<void>;
  /** Gives all hosts what is staged: of one source, or (`null`) of all. */
  promote(source: string | null): Promise<RepositoriesView>;
  /** A package's bytes, their digest checked. */
  packageFile(id: string, digest: Digest): Promise<Buffer>;
  toolchain(digest: Digest): Promise<ToolchainView>;
  /**
   * Asks for a build. While the service fetches the kernel from an archive, `onWait` hears what it does, and it is asked again. Throws
   * `unavailable` where that has no end.
   */
  createBuild(request: CreateBuild, onWait: (words: string) => void): Promise<BuildTicket>;
  build(id: string): Promise<BuildView>;
  /** The latest builds, newest first. */
  builds(limit: number): Promise<readonly BuildView[]>;
  /** What each request would be built as now, in their order; nothing is built. */
  resolve(requests: readonly CreateBuild[]): Promise<readonly ResolvedView[]>;
  /** The `Module.symvers` of the kernel that a host means, or `null` if it is not here. */
  symvers(facts: HostKernel): Promise<string | null>;
  /** All builds that a toolchain has made. */
  buildsOf(toolchain: Digest): Promise<readonly BuildView[]>;
  cancel(id: string, request: string | null): Promise<BuildView>;
  log(id: string): Promise<string>;
  /** An artifact's bytes, their digest checked. */
  artifact(digest: Digest): Promise<Buffer>;
  sources(): Promise<readonly SourceView[]>;
  /** The sources under a name in a version; with a tree, all such as have it and this caller may use. */
  sourcesLike(facts: {
    readonly name: string;
    readonly version: string;
    readonly tree?: Digest;
  }): Promise<readonly SourceView[]>;
  kernels(): Promise<readonly KernelView[]>;
  toolchains(): Promise<readonly ToolchainView[]>;
  archives(): Promise<readonly ArchiveView[]>;
  createArchive(archive: CreateArchive): Promise<ArchiveView>;
  removeArchive(name: string): Promise<void>;
  startSync(): Promise<SyncView>;
  syncState(): Promise<SyncView>;
  signers(): Promise<readonly SignerView[]>;
  tokens(): Promise<readonly TokenView[]>;
  createToken(wanted: CreateToken): Promise<IssuedToken>;
  /** Ends a token. With a reason in `withdraw`, all that it has pushed is withdrawn; gives how many things that were. */
  revokeToken(id: string, withdraw: string | null): Promise<number>;
  /** Gives a source's name to a token; `null` means the caller's own. */
  giveName(name: string, token: string | null): Promise<Maker>;
  /** All withdrawals. */
  withdrawals(): Promise<readonly WithdrawalView[]>;
  withdraw(kind: Withdrawable, id: string, reason: string): Promise<void>;
  endWithdrawal(kind: Withdrawable, id: string): Promise<void>;
  /** The misses: what was asked for and not had, by reason. */
  misses(): Promise<readonly MissView[]>;
}

const SLOW = 300_000;
/** How long it may take the service to fetch a kernel, and how long to wait until it is asked again, in milliseconds. */
const MOST_WAIT = 5 * 60_000;
const PAUSE = 1500;
/** The most builds of one toolchain that are listed: a candidate for its place must make all of them, too. */
const MOST_BUILDS = 10_000;
/** The most items of any other list. */
const MOST_ITEMS = 100_000;
/** Tries of an upload whose connection breaks. Some proxies tell only by that that the upload is too large for them. */
const UPLOAD_TRIES = 3;

/** Opens a service. Requests that may be repeated are repeated for as long as patience lasts. */
export const openService = (send: Send, patience: Patience): Service => {
  const { signal } = patience;
  const ask = (call: Call, isRepeatable = true): Promise<string> =>
    keepTrying(patience, isRepeatable, async () => readText(await send(call)));
  const read = async <T extends z.ZodType>(schema: T, path: string): Promise<z.output<T>> =>
    understand(schema, await ask({ method: 'GET', path, signal }));
  const postCall = (path: string, body: unknown): Call => ({
    method: 'POST',
    path,
    body: JSON.stringify(body),
    idle: SLOW,
  });
  const post = async <T extends z.ZodType>(
    schema: T,
    path: string,
    body: unknown,
  ): Promise<z.output<T>> => understand(schema, await ask(postCall(path, body)));
  /** Posts a request that must not be repeated, as it would be done twice. */
  const postOnce = async <T extends z.ZodType>(
    schema: T,
    path: string,
    body: unknown,
  ): Promise<z.output<T>> => understand(schema, await ask(postCall(path, body), false));
  const remove = async (path: string): Promise<void> => {
    await ask({ method: 'DELETE', path }, false);
  };
  /** The first `most` items of a list, page by page, until a page is the last or empty. */
  const first = async <T extends z.ZodType>(
    most: number,
    schema: T,
    path: string,
    query: Readonly<Record<string, string>> = {},
  ): Promise<readonly z.output<T>[]> => {
    const found: z.output<T>[] = [];
    let next: string | null = null;
    do {
      const wanted = new URLSearchParams(query);
      if (most - found.length < PAGE) wanted.set('limit', String(most - found.length));
      if (next !== null) wanted.set('after', next);
      const asked = wanted.size === 0 ? path : `${path}?${wanted.toString()}`;
      const answer: { items: z.output<T>[]; next: string | null } = await read(page(schema), asked);
      found.push(...answer.items);
      next = answer.items.length === 0 ? null : answer.next;
    } while (next !== null && found.length < most);
    return found.slice(0, most);
  };
  /** All items of a list. Throws `too-large` for one that has no end. */
  const items = async <T extends z.ZodType>(
    schema: T,
    path: string,
    query: Readonly<Record<string, string>> = {},
  ): Promise<readonly z.output<T>[]> => {
    const found = await first(MOST_ITEMS + 1, schema, path, query);
    if (found.length <= MOST_ITEMS) return found;
    throw new KilnError('too-large', `${path} has over ${MOST_ITEMS} items`);
  };

  return {
    async hasBlob(digest) {
      return (await orNull(ask({ method: 'HEAD', path: `/v1/blobs/${digest}`, signal }))) !== null;
    },
    async putBlob(digest, file, interrupted) {
      const { size } = await stat(file);
      const body = { open: () => createReadStream(file, { highWaterMark: 1024 * 1024 }), size };
      const path = `/v1/blobs/${digest}`;
      const call: Call = { method: 'PUT', path, body, signal: interrupted, idle: SLOW };
      let tries = 0;
      await keepTrying(patience, true, async () => {
        tries += 1;
        try {
          return await readText(await send(call));
        } catch (error) {
          if (!isBroken(error) || tries < UPLOAD_TRIES) throw error;
          throw new KilnError(
            'unreachable',
            `the connection broke ${tries} times while ${size} bytes were sent; if a proxy is before the service, have its limit raised (in nginx: client_max_body_size 0)`,
            { cause: error },
          );
        }
      });
    },
    createSource: (blob, claims) => post(SourceView, '/v1/sources', { blob, ...claims }),
    createKernel: (blob) => post(KernelView, '/v1/kernels', { blob }),
    deriveKernel: (delta, base, makes) => post(KernelView, '/v1/kernels', { delta, base, makes }),
    kernel: (digest) => orNull(read(KernelView, `/v1/kernels/${digest}`)),
    confirmKernel: (digest) => post(KernelView, '/v1/kernels', { digest }),
    kernelFiles: (digest) =>
      ask({ method: 'GET', path: `/v1/kernels/${digest}/files`, signal, idle: SLOW }),
    createToolchain: (blob, name, candidate) =>
      post(ToolchainView, '/v1/toolchains', { blob, name, candidate }),
    keepPackages: (toolchain, packages) =>
      post(ToolchainView, `/v1/toolchains/${toolchain}/packages`, packages),
    keptPackages: (toolchain) => read(ToolchainPackages, `/v1/toolchains/${toolchain}/packages`),
    keptPackage: (toolchain, digest) =>
      download(send, patience, `/v1/toolchains/${toolchain}/packages/${digest}`, digest),
    promoteToolchain: (digest, untried) =>
      post(ToolchainView, `/v1/toolchains/${digest}/promote`, { untried }),
    retireToolchain: (digest) => post(ToolchainView, `/v1/toolchains/${digest}/retire`, {}),
    rebuild: (build) =>
      postOnce(RebuildView, `/v1/builds/${encodeURIComponent(build)}/rebuild`, {}),
    rebuildState: (id) => read(RebuildView, `/v1/rebuilds/${encodeURIComponent(id)}`),
    createPackages: async (build, wanted) =>
      (await post(list(PackageView), `/v1/builds/${encodeURIComponent(build)}/packages`, wanted))
        .items,
    package: (id) => read(PackageView, `/v1/packages/${encodeURIComponent(id)}`),
    packagesOf: async (build) =>
      (await read(list(PackageView), `/v1/builds/${encodeURIComponent(build)}/packages`)).items,
    repositories: () => read(RepositoriesView, '/v1/repositories'),
    repositoryFile: (format, suite, path) =>
      ask({
        method: 'GET',
        path: `/repo/${format}/dists/${encodeURIComponent(suite)}/${path}`,
        signal,
      }),
    publish: (wanted) => post(RepositoriesView, '/v1/publications', wanted),
    unpublish: (source) => remove(`/v1/publications/${encodeURIComponent(source)}`),
    promote: (source) =>
      post(RepositoriesView, '/v1/repositories/promote', source === null ? {} : { source }),
    packageFile: (id, digest) =>
      download(send, patience, `/v1/packages/${encodeURIComponent(id)}/file`, digest),
    toolchain: (digest) => read(ToolchainView, `/v1/toolchains/${digest}`),
    async createBuild(request, onWait) {
      const since = performance.now();
      for (;;) {
        const answer = await post(z.union([BuildTicket, BuildWait]), '/v1/builds', request);
        if ('build' in answer) return answer;
        if (performance.now() - since > MOST_WAIT)
          throw new KilnError(
            'unavailable',
            `the service is at it for ${MOST_WAIT / 60_000} minutes: ${answer.waiting}; ask again later`,
          );
        onWait(answer.waiting);
        await sleep(PAUSE, undefined, { signal });
      }
    },
    build: (id) => read(BuildView, `/v1/builds/${encodeURIComponent(id)}`),
    resolve: async (requests) =>
      (await post(list(ResolvedView), '/v1/resolve', { wishes: requests })).items,
    async symvers(facts) {
      const given = JSON.parse(JSON.stringify(facts)) as Record<string, string>;
      const [kernel] = await items(KernelView, '/v1/kernels', given);
      if (kernel === undefined || kernel.symversDigest === null) return null;
      const symvers = await readText(
        await send({ method: 'GET', path: `/v1/kernels/${kernel.digest}/symvers`, idle: 300_000 }),
      );
      if (digestOf(symvers) === kernel.symversDigest) return symvers;
      throw new KilnError('unverified', 'the service sent another Module.symvers than it names');
    },
    builds: (limit) => first(limit, BuildView, '/v1/builds'),
    buildsOf: (toolchain) =>
      first(MOST_BUILDS, BuildView, '/v1/builds', { state: 'succeeded', toolchain }),
    /** Sent once and without patience: it is sent after ^C, too, which has ended the patience for everything else. */
    cancel: async (id, request) =>
      understand(
        BuildView,
        await readText(
          await send(
            postCall(
              `/v1/builds/${encodeURIComponent(id)}/cancel`,
              request === null ? {} : { request },
            ),
          ),
        ),
      ),
    log: (id) => ask({ method: 'GET', path: `/v1/builds/${encodeURIComponent(id)}/log`, signal }),
    artifact: (digest) => download(send, patience, `/v1/artifacts/${digest}`, digest),
    sources: () => items(SourceView, '/v1/sources'),
    sourcesLike: (facts) => items(SourceView, '/v1/sources', { ...facts }),
    kernels: () => items(KernelView, '/v1/kernels'),
    toolchains: () => items(ToolchainView, '/v1/toolchains'),
    archives: () => items(ArchiveView, '/v1/archives'),
    createArchive: (archive) => post(ArchiveView, '/v1/archives', archive),
    removeArchive: (name) => remove(`/v1/archives/${encodeURIComponent(name)}`),
    startSync: () => post(SyncView, '/v1/sync', {}),
    syncState: () => read(SyncView, '/v1/sync'),
    signers: () => items(SignerView, '/v1/signers'),
    tokens: () => items(TokenView, '/v1/tokens'),
    createToken: (wanted) => postOnce(IssuedToken, '/v1/tokens', wanted),
    revokeToken: async (id, withdraw) =>
      (
        await post(
          list(CreateWithdrawal.pick({ kind: true, id: true })),
          `/v1/tokens/${encodeURIComponent(id)}/revoke`,
          withdraw === null ? {} : { withdraw },
        )
      ).items.length,
    giveName: (name, token) =>
      post(Maker, `/v1/names/${encodeURIComponent(name)}`, token === null ? {} : { token }),
    withdrawals: () => items(WithdrawalView, '/v1/withdrawals'),
    async withdraw(kind, id, reason) {
      await post(CreateWithdrawal, '/v1/withdrawals', { kind, id, reason });
    },
    endWithdrawal: (kind, id) => remove(`/v1/withdrawals/${kind}/${encodeURIComponent(id)}`),
    misses: () => items(MissView, '/v1/misses'),
  };
};

/** The answer, or `null` where the service has no such thing. */
const orNull = async <T>(asked: Promise<T>): Promise<T | null> => {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof KilnError && error.code === 'not-found') return null;
    throw error;
  }
};
