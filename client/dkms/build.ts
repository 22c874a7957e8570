import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { CreateBuild } from '../../services/core/protocol/build.ts';
import { BuildEnded } from '../ask/ask.ts';
import { forEverybody } from '../host/umask.ts';
import { fetchBuilds, type Fetched } from '../install/fetch.ts';
import { serviceSupply } from '../install/supply.ts';
import { readCertificate } from '../installed/verify.ts';
import { addModule } from './add.ts';
import { createBuildTeller, type BuildTeller } from './build-log.ts';
import { layIntoTree } from './built.ts';
import type { HostConf } from './conf.ts';
import { missingDependencies, noteDependencies, refuseMissing } from './dependencies.ts';
import { DkmsEnd, EXIT } from './end.ts';
import { isThere } from './look.ts';
import type { DkmsRun } from './run.ts';
import { buildHome, builtHome, confOf, isAdded, labelOf, sourceLink, type Target } from './tree.ts';

/** What dkms calls itself in the first line of a log, and when asked for its version. */
export const DKMS_VERSION = 'dkms-3.2.2';

/**
 * Builds a module for a kernel: adds the source where that was not done, has the service build it, and lays what came, verified, into
 * dkms's tree. Says what dkms says. Throws `DkmsEnd` with dkms's statuses.
 */
export const buildModule = async (run: DkmsRun, target: Target): Promise<void> => {
  const { session } = run;
  const { places } = session;
  if (!(await isAdded(places, target))) {
    await addModule(run, target);
    session.say('');
  }
  const conf = await run.confs.read(
    { ...target, file: session.call.conf ?? confOf(places, target) },
    'strict',
  );
  if (conf.isExcluded) throw excluded(run, target);
  await mustHaveSource(run, target);
  const missing = await missingDependencies(run, target, conf);
  const prepared = await run.prepare(target, conf.dependencies);
  refuseMissing(run, target, missing);
  await mustHavePatches(run, target, conf);
  const home = buildHome(places, target);
  const teller = createBuildTeller(session, home);
  const began = new Date();
  try {
    await prepared.send();
    const fetched = await askAndFetch(run, prepared.request, teller);
    teller.end(true, signedLines(conf, home, fetched));
    await layIntoTree(run, target, fetched, makeLog(target, began, teller));
    if (conf.followsDependencies && !session.call.force) await noteDependencies(run, target, conf);
    await rm(home, { recursive: true, force: true });
  } catch (error) {
    throw await asDkmsEnd(run, target, error, teller, began);
  }
};

const excluded = ({ session: { places } }: DkmsRun, target: Target): DkmsEnd =>
  new DkmsEnd(
    EXIT.excluded,
    [
      `The ${builtHome(places, target)}/dkms.conf`,
      `for module ${labelOf(target)} includes a BUILD_EXCLUSIVE directive`,
      'which does not match this kernel/arch/config.',
      'This indicates that it should not be built.',
    ],
    'Warning:',
    'excluded',
  );

/** Throws where a source is a dkms.conf and nothing else. */
const mustHaveSource = async ({ session: { places } }: DkmsRun, target: Target): Promise<void> => {
  const link = sourceLink(places, target);
  const names = (await readdir(link)).filter((name) => !name.startsWith('.'));
  if (names.length < 2)
    throw new DkmsEnd(EXIT.badConf, [
      `The directory ${link} does not appear to have module source located within it.`,
      'Build halted.',
    ]);
};

const mustHavePatches = async (
  { session: { places } }: DkmsRun,
  target: Target,
  { patches }: HostConf,
): Promise<void> => {
  for (const patch of patches) {
    if (`patches/${patch}`.includes('/../'))
      throw new DkmsEnd(5, [
        `Patch ${patch} as specified in dkms.conf contains '..' path component.`,
      ]);
    if (!(await isThere(join(sourceLink(places, target), 'patches', patch))))
      throw new DkmsEnd(5, [
        `Patch ${patch} as specified in dkms.conf cannot be`,
        `found in ${buildHome(places, target)}/patches/.`,
      ]);
  }
};

/** Asks for the build and fetches it, verified. A module that policy left unsigned is taken into the tree: `install` decides about it. */
const askAndFetch = async (
  { session: { context } }: DkmsRun,
  request: CreateBuild,
  teller: BuildTeller,
): Promise<readonly Fetched[]> => {
  const deps = { ...context, onLog: teller.feed };
  const certificate = await readCertificate(context.config.certificate).catch(() => null);
  const fetched = await fetchBuilds(
    serviceSupply(deps, context.config.server),
    { ...request, retry: true },
    { certificate, allowUnsigned: true },
  );
  const last = fetched.at(-1);
  if (teller.isSilent() && last !== undefined)
    teller.feed(await context.service.log(last.build.id));
  return fetched;
};

/** What was signed, or why nothing was. */
const signedLines = (
  conf: HostConf,
  home: string,
  fetched: readonly Fetched[],
): readonly string[] => {
  const last = fetched.at(-1);
  if (last === undefined) return [];
  const { signature } = last.build;
  if (signature?.kind === 'signed')
    return conf.modules.map(
      ({ builtLocation, builtName }) => `Signing module ${home}/${builtLocation}${builtName}.ko`,
    );
  return [`The modules are not signed: ${signature?.reason ?? 'the service gave no reason'}`];
};

const makeLog = (target: Target, began: Date, teller: BuildTeller): string =>
  `DKMS (${DKMS_VERSION}) make.log for ${labelOf(target)} for kernel ${target.release} (${target.arch})\n${began.toUTCString()}\n${teller.log()}`;

/** A failed build as dkms ends it. The log stays where dkms leaves it. */
const asDkmsEnd = async (
  run: DkmsRun,
  target: Target,
  error: unknown,
  teller: BuildTeller,
  began: Date,
): Promise<unknown> => {
  if (!(error instanceof BuildEnded)) return error;
  if (error.code === 'excluded') return excluded(run, target);
  if (error.code !== 'build-failed') return error;
  const home = buildHome(run.session.places, target);
  const log = join(home, 'make.log');
  if (teller.isSilent())
    teller.feed(await run.session.context.service.log(error.build.id).catch(() => ''));
  const failed = teller.end(false, []);
  await forEverybody(async () => {
    await mkdir(home, { recursive: true });
    await writeFile(log, makeLog(target, began, teller));
  });
  const see = `Consult ${log} for more information.`;
  if (failed?.label === 'patch') return new DkmsEnd(6, [`Application of patch failed.`, see]);
  if (failed?.label.endsWith('-build') === true) {
    run.session.say(see);
    return new DkmsEnd(failed.status, []);
  }
  if (failed !== null)
    return new DkmsEnd(EXIT.buildFailed, [
      `Bad return status for module build on kernel: ${target.release} (${target.arch})`,
      see,
    ]);
  const { lines = [], message = '' } = error.build.failure ?? {};
  return new DkmsEnd(7, [message, ...lines, see]);
};
