import { readdir, readFile, stat } from 'node:fs/promises';
import type { Digest } from '../../services/core/digest.ts';
import { KilnError } from '../../services/core/errors.ts';
import { trustReaches } from '../../services/core/policy/policy.ts';
import {
  inspectSource,
  isSourceEvidence,
  type Settings,
} from '../../services/core/source/source.ts';
import type { DkmsSource } from '../host/dkms-host.ts';
import { placeToRead, type Host } from '../host/host.ts';
import { sendTree } from './ask.ts';
import type { AskDeps } from './ask-deps.ts';
import { knownSources } from './known-source.ts';
import { collect } from './pack.ts';
import { scanEntries, walk } from './tree.ts';

/** A source that the service has, by its digest (`null` where it would have to be pushed first, in a dry run); or why it cannot be had. */
export type Offered = { readonly digest: Digest | null } | { readonly problem: string };

/**
 * Has the service have a source as DKMS has it here: pushes it unless the service has this tree from somebody whom it trusts, or only
 * looks (`isDryRun`). Throws `unreachable`.
 */
export const offerDkmsSource = async (
  deps: AskDeps,
  host: Host,
  source: DkmsSource,
  isDryRun: boolean,
): Promise<Offered> => {
  const { name, version, directory } = source;
  const label = `${name}/${version}`;
  if (directory === null)
    return { problem: 'its source is gone; install the package that brought it again' };
  try {
    deps.progress.step(`reading ${label}`);
    const settings = await settingsOf(host, source);
    const scan = await scanEntries(await collect(walk(directory)), isSourceEvidence, deps.signal);
    const here = inspectSource(scan, { name, version, settings });
    const known = await knownSources(deps.service, here.source);
    const fitting = known.find((each) => haveSameSettings(each.settings, settings));
    if (fitting !== undefined) return { digest: fitting.digest };
    const problem = await whyNotPush(deps, { name, version, directory }, known.length > 0);
    if (problem !== null) return { problem };
    if (isDryRun) return { digest: null };
    const { blob } = await sendTree(deps, [directory], label);
    const pushed = await deps.service.createSource(blob, { name, version, settings });
    if (trustReaches(pushed.trust, 'ci')) return { digest: pushed.digest };
    return {
      problem: `the service does not have it, and this host’s token may not publish a source; have an admin run kiln source push ${directory}, or give a ci or admin token (--token-file)`,
    };
  } catch (error) {
    if (error instanceof KilnError && error.code !== 'unreachable')
      return { problem: error.message };
    throw error;
  }
};

/** Why a source cannot be pushed under its name and version, or `null`. */
const whyNotPush = async (
  { service }: AskDeps,
  { name, version, directory }: Pick<DkmsSource, 'name' | 'version' | 'directory'>,
  isTreeKnown: boolean,
): Promise<string | null> => {
  const label = `${name}/${version}`;
  const named = await service.sourcesLike({ name, version });
  if (named.length === 0) return null;
  return isTreeKnown
    ? `the service’s ${label} has other settings than this host’s /etc/dkms; kiln install ${label} takes it as the service has it`
    : `the service’s ${label} has other bytes than ${directory ?? ''}; push that under a version of its own, or install the service’s with kiln install ${label}`;
};

/** The host's own settings files for a source, which stand over its `dkms.conf` (source: dkms(8), `read_conf`). Throws where one is another machine's. */
export const settingsOf = async (
  host: Host,
  source: Pick<DkmsSource, 'name' | 'version'>,
): Promise<Settings> => {
  const directory = await placeToRead(host, 'etc/dkms');
  const names = (await readdir(directory).catch(() => [])).filter(
    (name) =>
      name === `${source.name}.conf` ||
      name === `${source.name}-${source.version}.conf` ||
      (name.startsWith(`${source.name}-${source.version}-`) && name.endsWith('.conf')),
  );
  const settings: Record<string, string> = {};
  for (const name of names.sort()) {
    const place = await placeToRead(host, `etc/dkms/${name}`);
    if (await isFile(place)) settings[`/etc/dkms/${name}`] = await readFile(place, 'utf8');
  }
  return settings;
};

const haveSameSettings = (a: Settings, b: Settings): boolean =>
  Object.keys(b).every((path) => a[path] === b[path]);

const isFile = (path: string): Promise<boolean> =>
  stat(path).then(
    (stats) => stats.isFile(),
    () => false,
  );
