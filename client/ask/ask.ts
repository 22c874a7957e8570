import { stat } from 'node:fs/promises';
import { isDigest, type Digest } from '../../services/core/digest.ts';
import { KilnError } from '../../services/core/errors.ts';
import type { BuildView, CreateBuild } from '../../services/core/protocol/build.ts';
import type { SourceClaims } from '../../services/core/source/source.ts';
import type { AskDeps } from './ask-deps.ts';
import { followBuild } from '../wire/follow.ts';
import { hostKernel, type Host } from '../host/host.ts';
import { packPaths } from './pack.ts';
import { sendKernelDirectory, type SentKernel } from './send-kernel.ts';

/** Sends a tree's bytes unless the service has them. */
export const sendTree = async (
  deps: AskDeps,
  paths: readonly string[],
  what: string,
): Promise<{ readonly blob: Digest; readonly sent: number }> => {
  deps.progress.step(`packing ${what}`);
  const packed = await packPaths(paths, deps.signal);
  try {
    if (await deps.service.hasBlob(packed.digest)) return { blob: packed.digest, sent: 0 };
    deps.progress.step(`sending ${what}`);
    await deps.service.putBlob(packed.digest, packed.file, deps.signal);
    return { blob: packed.digest, sent: (await stat(packed.file)).size };
  } finally {
    await packed.dispose();
  }
};

const isPath = async (text: string): Promise<boolean> =>
  text.startsWith('.') ||
  text.startsWith('/') ||
  (/\.(tar|tgz|deb|rpm)\b/.test(text) &&
    (await stat(text).then(
      () => true,
      () => false,
    )));

/** What a command line calls a source: a directory or tarball (sent), a digest, or NAME[/VERSION]. */
export const nameSource = async (
  deps: AskDeps,
  text: string,
  claims: SourceClaims,
): Promise<CreateBuild['source']> => {
  if (isDigest(text)) return { digest: text };
  if (await isPath(text)) {
    const { blob } = await sendTree(deps, [text], 'source');
    return { digest: (await deps.service.createSource(blob, claims)).digest };
  }
  const [name = '', version, ...rest] = text.split('/');
  if (name === '' || rest.length > 0)
    throw new KilnError(
      'bad-request',
      `${JSON.stringify(text)} is neither NAME, NAME/VERSION nor a path (write ./${text})`,
    );
  return version === undefined ? { name } : { name, version };
};

/** What a command line calls a kernel: headers in a directory or tarball (sent), a digest, or a release of this host or another. */
export const nameKernel = async (
  deps: AskDeps,
  text: string,
  host: Host,
): Promise<CreateBuild['kernel']> => {
  if (isDigest(text)) return { digest: text };
  if (!(await isPath(text))) return hostKernel(host, text);
  return { digest: (await sendKernel(deps, [text])).kernel.digest };
};

/** Sends headers: a directory, or tarballs and packages. */
export const sendKernel = async (deps: AskDeps, paths: readonly string[]): Promise<SentKernel> => {
  const [only = '', ...others] = paths;
  const isDirectory = await stat(only).then(
    (found) => found.isDirectory(),
    () => false,
  );
  if (isDirectory && others.length === 0) return sendKernelDirectory(deps, only);
  const { blob, sent } = await sendTree(deps, paths, 'headers');
  deps.progress.step('reading them');
  return { kernel: await deps.service.createKernel(blob), sent };
};

/** A build that ended without modules. */
export class BuildEnded extends KilnError {
  readonly build: BuildView;

  constructor(
    code: 'build-failed' | 'build-cancelled' | 'excluded',
    message: string,
    build: BuildView,
  ) {
    super(code, message);
    this.name = 'BuildEnded';
    this.build = build;
  }
}

/** Asks for a build and waits for its end; ^C takes the request back, but for a hook's. Throws `BuildEnded`, with the compiler's own lines where it failed. */
export const askForBuild = async (
  deps: AskDeps,
  request: CreateBuild,
): Promise<{ build: BuildView; isCached: boolean }> => {
  const { service, progress, signal } = deps;
  progress.step('asking');
  const ticket = await service.createBuild(request, progress.step);
  const { id } = ticket.build;
  if (ticket.cached) return { build: checkEnd(ticket.build), isCached: true };
  try {
    const build = await followBuild(
      deps.send,
      id,
      {
        state: ({ state, source, kernel }) =>
          progress.step(`${state} ${source.name}/${source.version} for ${kernel.release}`),
        log(text) {
          progress.detail(plain(text.trimEnd().split('\n').at(-1) ?? ''));
          deps.onLog?.(text);
        },
      },
      deps.patience,
    );
    return { build: checkEnd(build), isCached: false };
  } catch (error) {
    if (!signal.aborted) throw error;
    if (deps.leavesBuilds === true)
      throw new KilnError('build-cancelled', `ended before build ${id} was, which goes on`);
    await service.cancel(id, ticket.request).catch(() => {});
    throw new KilnError(
      'build-cancelled',
      `the request is taken back; build ${id} goes on only if somebody else waits for it`,
    );
  }
};

/** A log's line without what could move a terminal's cursor: it comes out of a sandbox. */
const plain = (line: string): string => line.replaceAll(/\p{Cc}/gu, ' ');

const checkEnd = (build: BuildView): BuildView => {
  const { failure, id } = build;
  if (build.withdrawn !== null) throw new KilnError('withdrawn', build.withdrawn);
  if (build.state === 'cancelled')
    throw new BuildEnded('build-cancelled', `build ${id} was cancelled`, build);
  if (build.exclusion !== null) {
    const { source, kernel } = build;
    throw new BuildEnded(
      'excluded',
      `${source.name}/${source.version} is not for ${kernel.release}, by its own word: ${plain(build.exclusion)}`,
      build,
    );
  }
  if (failure === null) return build;
  const lines = failure.lines.map((line) => `  ${plain(line)}`).join('\n');
  throw new BuildEnded(
    'build-failed',
    `${lines === '' ? '' : `\n${lines}\n`}${failure.message} (${failure.code}); the whole log: kiln logs ${id}`,
    build,
  );
};
