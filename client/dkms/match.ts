import { buildModule } from './build.ts';
import { DkmsEnd } from './end.ts';
import { installModule } from './install.ts';
import type { DkmsRun } from './run.ts';
import { tellEnd } from './session.ts';
import { ANY, isBuilt, isInstalled, statusRows, versionsIn, type Target } from './tree.ts';

/** `dkms match`: installs for one kernel what another one has. */
export const matchKernel = async (
  run: DkmsRun,
  { release, arch }: Pick<Target, 'release' | 'arch'>,
): Promise<void> => {
  const { session } = run;
  const { template, module } = session.call;
  if (template === null)
    throw new DkmsEnd(1, [
      'Invalid number of parameters passed.',
      'Usage: match --templatekernel=<kernel-version> -k <kernel-version>',
      '   or: match --templatekernel=<kernel-version> -k <kernel-version> <module>',
    ]);
  if (template === release)
    throw new DkmsEnd(2, ['The templatekernel and the specified kernel version are the same.']);
  if (module !== '' && (await versionsIn(session.places, { module, version: '' })).length === 0)
    throw new DkmsEnd(3, [`The module: ${module} is not located in the DKMS tree.`]);
  const rows = (
    await statusRows(session.places, { ...ANY, module, release: template, arch })
  ).filter(({ state }) => state === 'installed');
  session.say('');
  session.say(`Matching modules in kernel: ${release} (${arch})`);
  session.say(`to the configuration of kernel: ${template} (${arch})`);
  if (rows.length === 0) {
    session.say('');
    session.say('There is nothing to be done for this match.');
    return;
  }
  for (const row of rows) {
    session.say(`Module:  ${row.module}`);
    session.say(`Version: ${row.version}`);
    const target = { module: row.module, version: row.version, release, arch };
    try {
      if (!(await isBuilt(session.places, target))) await buildModule(run, target);
      if (!(await isInstalled(session.places, target))) await installModule(run, target);
    } catch (error) {
      if (!(error instanceof DkmsEnd)) throw error;
      tellEnd(session, error);
    }
  }
};
