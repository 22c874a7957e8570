import { readFile } from 'node:fs/promises';
import { KilnError } from '../../services/core/errors.ts';
import { archiveOf } from '../../services/core/policy/ownership.ts';
import type { HostFileClaims } from '../../services/core/source/host-files.ts';
import type { Settings, SourceClaims } from '../../services/core/source/source.ts';
import { sendTree } from '../ask/ask.ts';
import { listOption, onlyArgument, table, type Command, type Context } from '../command.ts';
import { commitOf } from '../ask/git.ts';

/** Options for what a source's own files do not say. */
export const SOURCE_OPTIONS = {
  name: { type: 'string' },
  version: { type: 'string' },
  depends: { type: 'string' },
  needs: { type: 'string' },
  setting: { type: 'string', multiple: true },
  file: { type: 'string', multiple: true },
} as const;

export const SOURCE_HELP = `      --name, --version  name a source that does not name itself
      --depends A,B      sources it is built against, where BUILD_DEPENDS does not say so in plain words
      --needs P,Q        packages its build needs besides the usual ones (libxtables-dev); default: the -dev packages that
                         a .deb depends on
      --setting /etc/PATH=FILE   a file that its dkms.conf reads from the host; may be repeated
      --file PLACE=PATH  a file of the source that hosts get with its modules, and lose with them; may be repeated. PLACE is
                         /lib/firmware/PATH (it goes to /lib/firmware/updates/RELEASE/PATH, which that kernel prefers),
                         /lib/udev/rules.d/NAME.rules, or NAME.conf in /lib/modprobe.d, /lib/depmod.d or /lib/modules-load.d`;

/** The pusher's claims about a source, from the options; settings are read by `readSettings`. */
export const sourceClaims = (context: Context): SourceClaims => ({
  name: context.option('name'),
  version: context.option('version'),
  depends: listOption(context, 'depends'),
  needs: listOption(context, 'needs'),
  files: hostFileClaims(context),
});

/** What `--file` says. Throws `bad-request`. */
const hostFileClaims = (context: Context): HostFileClaims | undefined => {
  const given = context.options('file');
  if (given.length === 0) return undefined;
  return Object.fromEntries(
    given.map((each) => {
      const [place = '', path] = each.split(/=(.*)/s);
      if (path === undefined)
        throw new KilnError('bad-request', `--file takes PLACE=PATH, not ${each}`);
      return [place, path];
    }),
  );
};

/** The files that `--setting` names. Throws `bad-request`. */
export const readSettings = async (context: Context): Promise<Settings | undefined> => {
  const given = context.options('setting');
  if (given.length === 0) return undefined;
  const settings: Record<string, string> = {};
  for (const each of given) {
    const [path = '', file] = each.split(/=(.*)/s);
    if (file === undefined)
      throw new KilnError('bad-request', `--setting takes /etc/PATH=FILE, not ${each}`);
    settings[path] = await readFile(file, 'utf8').catch((cause: unknown) => {
      throw new KilnError('bad-request', `${file} cannot be read`, { cause });
    });
  }
  return settings;
};

const sourcePush: Command = {
  name: 'source push',
  args: 'PATH',
  summary:
    'give the service a module’s source (directory, tarball, *-dkms .deb, dkms mktarball archive)',
  help: `A name and version, once pushed by ci or an admin, mean these bytes for good; the name is theirs who pushed it first.
A directory whose files are those of the Git commit that is checked out, and no others, keeps it in the record; nothing of
the repository is run.
${SOURCE_HELP}`,
  options: SOURCE_OPTIONS,
  async run(context) {
    const path = onlyArgument(context, 'directory, tarball or .deb');
    const { blob } = await sendTree(context, [path], 'source');
    context.progress.step('reading it');
    const source = await context.service.createSource(blob, {
      ...sourceClaims(context),
      settings: await readSettings(context),
      commit: await commitOf(path),
    });
    context.progress.done();
    context.print(`source ${source.name}/${source.version}  ${source.digest}`, source);
  },
};

const sourceList: Command = {
  name: 'source list',
  args: '',
  summary: 'list the sources that have a name here',
  help: '',
  options: {},
  async run(context) {
    const sources = await context.service.sources();
    const rows = sources.map((s) => [
      `${s.name}/${s.version}`,
      s.kind,
      s.digest,
      s.madeBy.name,
      s.withdrawn === null ? '' : 'withdrawn',
    ]);
    context.print(table([['SOURCE', 'KIND', 'DIGEST', 'BY', ''], ...rows]), sources);
  },
};

const sourceGive: Command = {
  name: 'source give',
  args: 'NAME [TOKEN]',
  summary: 'let a source’s name be another token’s, or without TOKEN your own (admin)',
  help: `A name belongs to the token that first published it (kiln token list), or to the archives if one of these brought it first; an
admin's name is every admin's. TOKEN may also be an archive that is followed: archive:NAME.`,
  options: {},
  async run(context) {
    const [name, token = null, ...others] = context.args;
    if (name === undefined || others.length > 0)
      throw new KilnError('bad-request', 'give a name, and the token it shall belong to');
    const owner = await context.service.giveName(name, token);
    const whose = archiveOf(owner.id) === null ? 'token' : 'archive';
    context.print(`the name ${name} belongs to the ${whose} ${owner.name}`, { name, owner });
  },
};

export const SOURCE_COMMANDS: readonly Command[] = [sourcePush, sourceList, sourceGive];
