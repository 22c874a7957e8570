import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { isFinished } from '../../services/core/build/build-state.ts';
import { KilnError } from '../../services/core/errors.ts';
import { onlyArgument, table, type Command, type Context } from '../command.ts';

const archiveAdd: Command = {
  name: 'archive add',
  args: 'NAME',
  summary: 'follow a distribution’s archive for new kernels and modules’ sources (admin)',
  help: `Give one of --sources and --repo. What comes is verified by the service’s apt, or by its gpgv and rpmkeys; what a file sets beyond
where packages are and who signs them is refused, where something unsigned could come of it.
      --sources FILE     an apt archive’s: Debian’s, Ubuntu’s (deb822, as /etc/apt/sources.list.d/debian.sources).
                         A stanza of a snapshot needs Check-Valid-Until: no, as its metadata is out of date
      --repo FILE        an RPM repository’s, with one baseurl (http, https, file) and gpgkey=file:///PATH on the service’s machine.
                         Packages must be signed, and so must repomd.xml, unless the file says repo_gpgcheck=0 (Fedora, Enterprise Linux)
      --headers REGEX    the packages with headers, with groups release and flavour; the newest of each flavour is followed
                         (linux-headers-RELEASE, and an older one that this matches, comes when a host asks for a module for it).
                         What they stand on (-common, kbuild, SUSE’s kernel-devel) comes along. The name of an RPM has its version:
                         Debian  'linux-headers-(?<release>6\\.1\\.0-\\d+-(?<flavour>amd64|cloud-amd64))'
                         Ubuntu  'linux-headers-(?<release>6\\.8\\.0-\\d+-(?<flavour>generic|lowlatency))'
                         Fedora  'kernel-devel-(?<release>.+\\.x86_64)'
                         SUSE    'kernel-(?<flavour>default)-devel-(?<release>[\\d.]+-[\\d.]+)\\.\\d+\\.x86_64'
      --modules REGEX    the packages whose modules’ sources are taken in, as they stand in /usr/src where these are installed (apt’s):
                         '.*-dkms'; default: none. What is built of them is signed. A name that comes from an archive is no
                         token’s; of a name that is a token’s, the archive’s source is reached by hosts that have the package
      --build-ahead      build those of these sources that say AUTOINSTALL for each new kernel of the archive; default: only
                         when somebody asks
Added again, an archive has the new description; whatever was seen of it before does not count any more.`,
  options: {
    sources: { type: 'string' },
    repo: { type: 'string' },
    headers: { type: 'string' },
    modules: { type: 'string' },
    'build-ahead': { type: 'boolean' },
  },
  async run(context) {
    const name = onlyArgument(context, 'archive name');
    const [sources, repo, headers] = ['sources', 'repo', 'headers'].map((each) =>
      context.option(each),
    );
    const file = sources ?? repo;
    if (file === undefined || (sources !== undefined && repo !== undefined))
      throw new KilnError('bad-request', 'give one of --sources FILE and --repo FILE');
    if (headers === undefined) throw new KilnError('bad-request', 'give --headers REGEX');
    const text = await readFile(file, 'utf8').catch((cause: unknown) => {
      throw new KilnError('bad-request', `${file} cannot be read`, { cause });
    });
    const archive = await context.service.createArchive({
      name,
      kind: sources === undefined ? 'rpm' : 'apt',
      sources: text,
      headers,
      modules: context.option('modules') ?? null,
      buildsAhead: context.flag('build-ahead'),
    });
    context.print(`following ${name}; kiln kernel sync looks at it now`, archive);
  },
};

const archiveList: Command = {
  name: 'archive list',
  args: '',
  summary: 'list the archives that are followed',
  help: '',
  options: {},
  async run(context) {
    const archives = await context.service.archives();
    const rows = archives.map(({ name, kind, headers, modules, buildsAhead, madeBy }) => [
      name,
      kind,
      madeBy.name,
      headers,
      modules === null ? '' : `${modules}${buildsAhead ? ', built ahead' : ''}`,
    ]);
    context.print(table([['ARCHIVE', 'KIND', 'BY', 'HEADERS', 'MODULES'], ...rows]), archives);
  },
};

const archiveRemove: Command = {
  name: 'archive remove',
  args: 'NAME',
  summary: 'follow an archive no longer; its kernels and sources stay (admin)',
  help: '',
  options: {},
  async run(context) {
    const name = onlyArgument(context, 'archive name');
    await context.service.removeArchive(name);
    context.print(`no longer following ${name}`, { removed: name });
  },
};

const kernelSync: Command = {
  name: 'kernel sync',
  args: '',
  summary:
    'take in the newest kernels and sources of the archives that are followed, and build what is marked for it (ci)',
  help: `The service does this by itself every KILN_SYNC_HOURS (6). A problem with one kernel or source keeps no other back;
the exit status is 1 if there was any.
      --wait             until the builds that were begun have ended`,
  options: { wait: { type: 'boolean' } },
  async run(context) {
    const { service, progress, signal } = context;
    let view = await service.startSync();
    while (view.state === 'running') {
      progress.step(view.step);
      await sleep(300, undefined, { signal });
      view = await service.syncState();
    }
    const states = context.flag('wait') ? await waitForAll(context, view.builds) : new Map();
    progress.done();
    const kernels = view.kernels.map(({ release, isNew }) => [
      release,
      isNew ? 'taken in' : 'known',
    ]);
    const sources = view.sources.map(({ name, version, isNew }) => [
      `${name}/${version}`,
      isNew ? 'taken in' : 'known',
    ]);
    const builds = view.builds.map((id) => [id, String(states.get(id) ?? 'begun')]);
    context.print(
      table([['KERNEL, SOURCE OR BUILD', 'STATE'], ...kernels, ...sources, ...builds]),
      view,
    );
    const [first, ...others] = view.problems;
    if (first !== undefined)
      throw new KilnError(
        'build-failed',
        `${first}${others.length > 0 ? ` (and ${others.length} more)` : ''}`,
      );
  },
};

const waitForAll = async (
  { service, progress, signal }: Context,
  ids: readonly string[],
): Promise<ReadonlyMap<string, string>> => {
  const states = new Map<string, string>();
  for (const [index, id] of ids.entries()) {
    let build = await service.build(id);
    while (!isFinished(build.state)) {
      progress.step(
        `build ${index + 1} of ${ids.length}: ${build.source.name} for ${build.kernel.release}`,
      );
      await sleep(500, undefined, { signal });
      build = await service.build(id);
    }
    states.set(id, build.state);
  }
  return states;
};

export const ARCHIVE_COMMANDS: readonly Command[] = [
  kernelSync,
  archiveAdd,
  archiveList,
  archiveRemove,
];
