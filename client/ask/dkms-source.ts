import { readdir, readFile, stat } from 'node:fs/promises';
import { KilnError } from '../../services/core/errors.ts';
import { trustReaches } from '../../services/core/policy/policy.ts';
import type { SourceView } from '../../services/core/protocol/source.ts';
import {
  inspectSource,
  isSourceEvidence,
  type Settings,
} from '../../services/core/source/source.ts';
import type { DkmsSource } from '../host/dkms-host.ts';
import { placeToRead, type Host } from '../host/host.ts';
import { sendTree } from './ask.ts';
import type { AskDeps } from './ask-deps.ts';
import { collect } from './pack.ts';
import { scanEntries, walk } from './tree.ts';

/**
 * Has the service have a source as DKMS has it here: pushes it unless it is there, or only looks (`isDryRun`). Gives the reason where it
 * cannot be had, else `null`. Throws `unreachable`. `published`: the service's sources.
 */
export const offerDkmsSource = async (
  deps: AskDeps,
  host: Host,
  source: DkmsSource,
  published: readonly SourceView[],
  isDryRun: boolean,
): Promise<string | null> => {
  const label = `${source.name}/${source.version}`;
  if (source.directory === null)
    return 'its source is gone; install the package that brought it again';
  try {
    deps.progress.step(`reading ${label}`);
    const settings = await settingsOf(host, source);
    const known = published.find(
      ({ name, version }) => name === source.name && version === source.version,
    );
    const scan = await scanEntries(
      await collect(walk(source.directory)),
      isSourceEvidence,
      deps.signal,
    );
    const here = inspectSource(scan, { name: source.name, version: source.version, settings });
    if (known !== undefined) {
      if (known.tree !== here.source.tree)
        return `the service’s ${label} has other bytes than ${source.directory}; push that under a version of its own, or install the service’s with kiln install ${label}`;
      return haveSameSettings(known.settings, settings)
        ? null
        : `the service’s ${label} has other settings than this host’s /etc/dkms; kiln install ${label} takes it as the service has it`;
    }
    if (isDryRun) return null;
    const { blob } = await sendTree(deps, [source.directory], label);
    const pushed = await deps.service.createSource(blob, {
      name: source.name,
      version: source.version,
      settings,
    });
    return trustReaches(pushed.trust, 'ci')
      ? null
      : `the service does not have it, and this host’s token may not publish a source; have an admin run kiln source push ${source.directory}, or give a ci or admin token (--token-file)`;
  } catch (error) {
    if (error instanceof KilnError && error.code !== 'unreachable') return error.message;
    throw error;
  }
};

/** The host's own settings files for a source, which stand over its `dkms.conf` (source: dkms(8), `read_conf`). Throws where one is another machine's. */
const settingsOf = async (host: Host, source: DkmsSource): Promise<Settings> => {
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
