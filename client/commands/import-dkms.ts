import { isAbsolute } from 'node:path';
import { KilnError } from '../../services/core/errors.ts';
import { table, type Command, type Context } from '../command.ts';
import { readDkmsLayout, USUAL_LAYOUT, type DkmsLayout } from '../host/dkms-framework.ts';
import { dkmsSources, type DkmsSource } from '../host/dkms-host.ts';
import type { Host } from '../host/host.ts';
import { takeOver } from '../install/take-over.ts';
import { termsOf } from './install.ts';

export const importDkms: Command = {
  name: 'import-dkms',
  args: '[NAME…]',
  summary: 'take over the modules that DKMS has installed on this host',
  help: `Each source is matched with the service's by name, version and bytes, or pushed (that takes a ci or admin token). Its
modules are installed for the kernels DKMS has them installed for, and only then are DKMS's copies removed, with dkms where it
is there. What cannot be taken over stays DKMS's, and is listed with why; then the exit status is 7. A package that brought a
source to DKMS (dpkg -S /usr/src/NAME-VERSION) stays installed and adds it again when it is updated: remove it yourself.

      --dry-run          only say what would be taken over
      --dkms-tree DIR    where DKMS keeps its modules, if not where /etc/dkms/framework.conf and its drop-ins say in plain
                         words (they are shell, and are not run)
      --root DIR         in another root`,
  options: { 'dry-run': { type: 'boolean' }, 'dkms-tree': { type: 'string' } },
  async run(context) {
    const host = await context.host();
    const layout = await layoutOf(context, host);
    const sources = await chosenSources(host, layout, context.args);
    if (layout.loads)
      context.progress.say(
        'DKMS loads what it installs here (modprobe_on_install); Kiln does not: modprobe a module that is to be used at once',
      );
    const terms = context.flag('dry-run') ? null : () => termsOf(context, []);
    const results = await takeOver(context, host, sources, terms);
    context.progress.done();
    context.print(
      results.length === 0
        ? `DKMS has installed nothing here: there is nothing in ${layout.tree}`
        : table(
            results.map(({ name, version, release, outcome, why }) => [
              `${name}/${version}`,
              release,
              why === null ? outcome : `${outcome}: ${why}`,
            ]),
          ),
      results,
    );
    const left = results.filter(({ outcome }) => outcome === 'left to DKMS').length;
    if (left > 0 && !context.flag('dry-run'))
      throw new KilnError(
        'install-failed',
        `${left} of ${results.length} were left to DKMS; mend what is said of them and run kiln import-dkms again`,
      );
  },
};

/** DKMS's directories, from the command line or else from the host's own settings. */
const layoutOf = async (context: Context, host: Host): Promise<DkmsLayout> => {
  const tree = context.option('dkms-tree');
  if (tree === undefined) return readDkmsLayout(host);
  if (!isAbsolute(tree))
    throw new KilnError('bad-request', '--dkms-tree takes an absolute path, as the host has it');
  return { ...USUAL_LAYOUT, tree };
};

const chosenSources = async (
  host: Host,
  layout: DkmsLayout,
  names: readonly string[],
): Promise<readonly DkmsSource[]> => {
  const sources = await dkmsSources(host, layout);
  const unknown = names.find((name) => !sources.some((source) => source.name === name));
  if (unknown !== undefined)
    throw new KilnError('not-found', `DKMS has no ${unknown} here; dkms status lists what it has`);
  return sources.filter(({ name }) => names.length === 0 || names.includes(name));
};
