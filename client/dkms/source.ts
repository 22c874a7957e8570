import { realpath } from 'node:fs/promises';
import type { CreateBuild, ResolvedView } from '../../services/core/protocol/build.ts';
import type { Digest } from '../../services/core/digest.ts';
import { knownSources } from '../ask/known-source.ts';
import {
  inspectSource,
  isSourceEvidence,
  type Settings,
  type Source,
  type SourceClaims,
} from '../../services/core/source/source.ts';
import { sendTree } from '../ask/ask.ts';
import { settingsOf } from '../ask/dkms-source.ts';
import { collect } from '../ask/pack.ts';
import { scanEntries, walk } from '../ask/tree.ts';
import { hostKernel } from '../host/host.ts';
import { DkmsEnd, EXIT } from './end.ts';
import type { DkmsSession } from './session.ts';
import { labelOf, sourceLink, type Target } from './tree.ts';

/** What is to be asked for, and whether the service has its source. */
export interface Prepared {
  readonly request: CreateBuild;
  /** What the service would build of it now, or why it cannot. */
  readonly view: ResolvedView | undefined;
  /** Sends the source, unless the service has it. */
  send(): Promise<void>;
}

/**
 * The request for what dkms would build here: the source by its digest, which the host works out itself, and the host's own settings. The
 * source is sent only where the service has no such source. Throws `DkmsEnd(21)` where nobody has the kernel's headers.
 */
export const requestFor = async (
  session: DkmsSession,
  target: Target,
  dependencies: readonly string[],
): Promise<Prepared> => {
  const { context, host, places } = session;
  const directory = await realpath(sourceLink(places, target));
  const scan = await scanEntries(await collect(walk(directory)), isSourceEvidence, context.signal);
  const claims: SourceClaims = {
    name: target.module,
    version: target.version,
    depends: dependencies.filter((name) => name !== target.module),
  };
  const { source } = inspectSource(scan, claims);
  const known = await knownDigest(session, source);
  const request: CreateBuild = {
    source: { digest: known ?? source.digest },
    kernel: await hostKernel(host, target.release),
    settings: withDirectives(
      await settingsOf(host, { name: target.module, version: target.version }),
      target,
      session.call.directives,
    ),
  };
  const [view] = await context.service.resolve([request]);
  mustHaveHeaders(session, target.release, view);
  return {
    request,
    view,
    async send() {
      if (known !== null) return;
      const { blob } = await sendTree(context, [directory], labelOf(target));
      await context.service.createSource(blob, claims);
      // Of a source that it does not know the service says nothing more: now it tells of the kernel.
      const [now] = await context.service.resolve([request]);
      mustHaveHeaders(session, target.release, now);
    },
  };
};

/**
 * The service's source with this tree: one that somebody vouches for, as an archive does for its packages' own; else what was sent before.
 * `null` where it has to be sent.
 */
const knownDigest = async ({ context }: DkmsSession, source: Source): Promise<Digest | null> => {
  const { name, version, tree, digest } = source;
  const vouched = await knownSources(context.service, source);
  const fitting = vouched.find(({ settings }) => Object.keys(settings).length === 0);
  if (fitting !== undefined) return fitting.digest;
  const all = await context.service.sourcesLike({ name, version, tree });
  return all.some((each) => each.digest === digest) ? digest : null;
};

const detailOf = (view: ResolvedView | undefined): string =>
  view !== undefined && 'problem' in view && view.problem.code === 'not-found'
    ? view.problem.detail
    : '';

const mustHaveHeaders = (
  { places }: DkmsSession,
  release: string,
  view: ResolvedView | undefined,
): void => {
  if (!/\bkernel\b/.test(detailOf(view))) return;
  const home = `${places.kernels}/${release}`;
  throw new DkmsEnd(EXIT.noHeaders, [
    `Your kernel headers for kernel ${release} cannot be found at ${home}/build or ${home}/source.`,
    `Please install the linux-headers-${release} package or use the --kernelsourcedir option to tell DKMS where it's located.`,
  ]);
};

/** The settings with what the command line sets over them, as the file that counts most. */
const withDirectives = (
  settings: Settings,
  { module, version, release, arch }: Target,
  directives: readonly string[],
): Settings => {
  if (directives.length === 0) return settings;
  const path = `/etc/dkms/${module}-${version}-${release}-${arch}.conf`;
  const lines = directives.map((directive) => {
    const [, name, value = ''] = /^([A-Z][A-Z_0-9]*)=(.*)$/s.exec(directive) ?? [];
    if (name === undefined)
      throw new DkmsEnd(EXIT.usage, [
        `--directive takes NAME=VALUE, not ${JSON.stringify(directive)}`,
      ]);
    return `${name}='${value.replaceAll("'", `'\\''`)}'\n`;
  });
  return { ...settings, [path]: `${settings[path] ?? ''}\n${lines.join('')}` };
};
