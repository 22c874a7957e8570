import { KilnError } from '../../services/core/errors.ts';
import { PACKAGE_FORMATS } from '../../services/core/packages/plan.ts';
import type { PackageView } from '../../services/core/protocol/package.ts';
import { askForBuild } from '../ask/ask.ts';
import { neededInTree } from '../ask/in-tree.ts';
import { makePackages, savePackages } from '../ask/packages.ts';
import { onlyArgument, table, type Command, type Context } from '../command.ts';
import { chooseRelease } from '../host/host.ts';
import { BUILD_OPTIONS, namedRequest } from './request.ts';
import { SOURCE_HELP } from './source.ts';

export const packageCommand: Command = {
  name: 'package',
  args: 'BUILD | SOURCE',
  summary: 'make packages of a build’s signed modules and, with -o, fetch them',
  help: `BUILD is a build's id (kiln list). SOURCE and the kernel are as for kiln build, and are built first if they are not yet. What is
there already is compiled, or packed, once.

      --format FORMAT    ${PACKAGE_FORMATS.join(', ')} (default: deb); a kmp is an RPM package for all kernels with
                         the same CRCs, a sysext an image that systemd-sysext merges over /usr, an oci an image for
                         containers, which KMM loads modules from: asked for where the kernel's own modules are
  -o, --output DIR       write the packages there, with those that they need from here
  -k, --kernel KERNEL    default: the running kernel
      --root DIR         of an oci: where the kernel is installed, whose modules.dep says what it has itself
${SOURCE_HELP}`,
  options: {
    ...BUILD_OPTIONS,
    background: { type: 'boolean' },
    format: { type: 'string' },
    output: { type: 'string', short: 'o' },
  },
  async run(context) {
    const format = formatOption(context);
    const build = await namedBuild(context, onlyArgument(context, 'build or source'));
    const inTree =
      format === 'oci' ? await neededInTree(context.service, await context.host(), build) : [];
    const made = await makePackages(context, build, {
      format,
      ...(inTree.length === 0 ? {} : { inTree }),
    });
    const output = context.option('output');
    if (output !== undefined) await savePackages(context, made, output);
    context.progress.done();
    const rows = made.map(({ id, file, size, digest }) => [id, file, String(size), digest ?? '']);
    context.print(table([['PACKAGE', 'FILE', 'BYTES', 'DIGEST'], ...rows]), made);
  },
};

/** Throws `bad-request`. */
const formatOption = (context: Context): PackageView['format'] => {
  const given = context.option('format') ?? 'deb';
  const known = PACKAGE_FORMATS.find((each) => each === given);
  if (known === undefined)
    throw new KilnError('bad-request', `--format takes ${PACKAGE_FORMATS.join(', ')}`);
  return known;
};

/** The id of the build that a command line means; one that is not there yet is asked for. */
const namedBuild = async (context: Context, named: string): Promise<string> => {
  if (/^[0-9a-f]{24}$/.test(named)) return named;
  const kernel = context.option('kernel') ?? (await chooseRelease(await context.host(), undefined));
  return (await askForBuild(context, await namedRequest(context, named, kernel))).build.id;
};
