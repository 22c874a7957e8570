import { join } from 'node:path';
import type { PackageFormat } from '../../services/core/packages/plan.ts';
import { makePackages, savePackages } from '../ask/packages.ts';
import { bundleSupply } from '../install/bundle.ts';
import { buildModule } from './build.ts';
import { BUNDLE_FILE } from './built.ts';
import type { Verb } from './call.ts';
import { DkmsEnd } from './end.ts';
import { isThere } from './look.ts';
import type { DkmsRun } from './run.ts';
import { builtHome, homeOf, isBuilt, labelOf, type Target } from './tree.ts';

/** The verbs of dkms 2 that make packages, each with a directory of its own beside what was built (source: dkms 2.8's dkms(8)). */
const FORMATS = {
  mkdeb: 'deb',
  mkbmdeb: 'deb',
  mkrpm: 'rpm',
  mkkmp: 'kmp',
} as const satisfies Partial<Record<Verb, PackageFormat>>;
const DIRECTORIES = { mkdeb: 'deb', mkbmdeb: 'bmdeb', mkrpm: 'rpm', mkkmp: 'kmp' } as const;
export type PackageVerb = keyof typeof FORMATS;

/** `dkms mkdeb`, `mkbmdeb`, `mkrpm` and `mkkmp`: the service's packages of what is built, which is built first where it is not. */
export const packageModules = async (
  run: DkmsRun,
  verb: PackageVerb,
  target: Target,
): Promise<void> => {
  const { session } = run;
  const { context, places } = session;
  if (!(await isBuilt(places, target))) await buildModule(run, target);
  const bundle = join(builtHome(places, target), BUNDLE_FILE);
  if (!(await isThere(bundle)))
    throw new DkmsEnd(6, [
      `${builtHome(places, target)} was not built by Kiln, which has no packages of it.`,
      `Build it anew: dkms build --force ${labelOf(target)} -k ${target.release}`,
    ]);
  const supply = await bundleSupply(bundle);
  const { build } = await supply.build({
    source: { name: target.module, version: target.version },
    kernel: { release: target.release },
  });
  const packages = await makePackages(context, build.id, { format: FORMATS[verb] });
  const files = await savePackages(
    context,
    packages,
    join(homeOf(places, target), DIRECTORIES[verb]),
  );
  context.progress.done();
  for (const file of files) session.say(`Wrote: ${file}`);
  session.say(`DKMS: ${verb} completed.`);
};
