import { KilnError } from '../../services/core/errors.ts';
import { REPOSITORY_FORMATS, type RepositoryFormat } from '../../services/core/packages/plan.ts';
import { KEY_FILE, statedKey } from '../../services/core/provenance/repository-key.ts';
import { suiteName } from '../../services/core/repository/repository.ts';
import type {
  PublicationView,
  RepositoriesView,
  RepositoryView,
} from '../../services/core/protocol/repository.ts';
import { listOption, onlyArgument, table, type Command, type Context } from '../command.ts';
import { readCertificate } from '../installed/verify.ts';

/** Where RPM distributions keep the keys of repositories. */
const RPM_KEY = '/etc/pki/rpm-gpg/RPM-GPG-KEY-kiln';
const FORMAT_HELP = `      --format FORMAT,…  ${REPOSITORY_FORMATS.join(', ')} (default: deb); kmp: RPM packages for all kernels with the same CRCs`;

const list: Command = {
  name: 'repo list',
  args: '',
  summary: 'list what is published in package repositories, and the repositories',
  help: '',
  options: {},
  async run(context) {
    const view = await context.service.repositories();
    context.print(describe(view), view);
  },
};

const publish: Command = {
  name: 'repo publish',
  args: 'SOURCE',
  summary: 'publish a source’s packages, for each kernel that it is built and signed for (admin)',
  help: `Its packages are made of the newest version for each of the newest kernels, and kept up: a new build comes into the repository by
itself. Whoever reaches the service may read a repository, without a token.

      --to CHANNEL       where what is new goes first: staging, until kiln repo promote gives it to all (default), or stable
${FORMAT_HELP}`,
  options: { to: { type: 'string' }, format: { type: 'string' } },
  async run(context) {
    const source = onlyArgument(context, 'source');
    const view = await context.service.publish({
      source,
      channel: channelOption(context),
      formats: formatsOption(context),
      hold: false,
    });
    context.print(describe(view), view);
  },
};

const hold: Command = {
  name: 'repo hold',
  args: 'SOURCE',
  summary: 'publish nothing new of a source for now; what is there stays (admin)',
  help: `      --undo             go on`,
  options: { undo: { type: 'boolean' } },
  async run(context) {
    const source = onlyArgument(context, 'source');
    const { publications } = await context.service.repositories();
    const known = publications.find((each) => each.source === source);
    if (known === undefined)
      throw new KilnError(
        'not-found',
        `${source} is not published; kiln repo publish ${source} publishes its packages`,
      );
    const { formats, channel } = known;
    const isHeld = !context.flag('undo');
    const view = await context.service.publish({
      source,
      channel,
      formats: [...formats],
      hold: isHeld,
    });
    context.print(describe(view), view);
  },
};

const unpublish: Command = {
  name: 'repo unpublish',
  args: 'SOURCE',
  summary: 'take a source’s packages out of the repositories (admin)',
  help: 'Hosts that have them keep them.',
  options: {},
  async run(context) {
    const source = onlyArgument(context, 'source');
    await context.service.unpublish(source);
    context.print(`${source} is not published any more`, { source });
  },
};

const promote: Command = {
  name: 'repo promote',
  args: '[SOURCE]',
  summary: 'give all hosts what those of staging have: of one source, or of all (admin)',
  help: '',
  options: {},
  async run(context) {
    const [source, ...others] = context.args;
    if (others.length > 0) throw new KilnError('bad-request', 'give one source, or none for all');
    const view = await context.service.promote(source ?? null);
    context.print(describe(view), view);
  },
};

const sources: Command = {
  name: 'repo sources',
  args: 'SUITE',
  summary: 'print what a host’s package manager is told about a repository',
  help: `For apt, to be put into /etc/apt/sources.list.d/kiln.sources; the key is in it. With --format rpm or kmp for dnf and zypper, to be
put into /etc/yum.repos.d/kiln.repo or /etc/zypp/repos.d/kiln.repo, with what kiln repo key prints in ${RPM_KEY}.
SUITE is one of kiln repo list: NAME, or NAME-staging for those who try first. The address is that of this client's own service
(--server URL for another).

      --format FORMAT    one of ${REPOSITORY_FORMATS.join(', ')} (default: deb)`,
  options: { format: { type: 'string' } },
  async run(context) {
    const suite = onlyArgument(context, 'suite');
    const { repositories, key: said } = await context.service.repositories();
    const [format = 'deb', ...others] = formatsOption(context);
    if (others.length > 0) throw new KilnError('bad-request', 'give one format');
    const repository = repositories.find(
      (each) => suiteName(each) === suite && each.format === format && each.isServed,
    );
    if (repository === undefined)
      throw new KilnError(
        'not-found',
        `no ${format} repository ${suite} is served; kiln repo list shows those that there are`,
      );
    const key = await trustedKey(context, said, repository);
    const base = `${context.config.server}/repo/${format}`;
    const text = format === 'deb' ? aptSources(base, suite, key) : repoFile(base, suite, format);
    context.print(text, { sources: text });
  },
};

const repositoryKey: Command = {
  name: 'repo key',
  args: '',
  summary: 'print the OpenPGP key that repositories are signed with',
  help: `For dnf and zypper, to be put into ${RPM_KEY}. apt's is in kiln repo sources. Where a certificate
is pinned, its key must state that this is the signer's.`,
  options: {},
  async run(context) {
    const { key: said, repositories } = await context.service.repositories();
    const served = repositories.find(({ isServed }) => isServed);
    if (served === undefined)
      throw new KilnError(
        'not-found',
        'no repository is served yet; kiln repo publish SOURCE publishes a source’s packages',
      );
    const armored = await trustedKey(context, said, served);
    context.print(armored.trimEnd(), { key: armored });
  },
};

/**
 * The key of repositories: where a certificate is pinned, the one that its key states beside a repository's index; else the one that the
 * service says, and the user is told so. Throws `unverified`.
 */
const trustedKey = async (
  context: Context,
  said: string,
  repository: RepositoryView,
): Promise<string> => {
  const { certificate: pinned } = context.config;
  if (pinned === null) {
    context.progress.say(
      'not verified: no certificate is pinned, so the key is what the service says; run kiln setup URL, or give --certificate FILE',
    );
    return said;
  }
  const certificate = await readCertificate(pinned);
  const { format } = repository;
  const envelope = await context.service.repositoryFile(format, suiteName(repository), KEY_FILE);
  return statedKey(envelope, certificate, Date.now() / 1000).key;
};

/** A repository in deb822, with its key (source: sources.list(5)). */
const aptSources = (uri: string, suite: string, key: string): string => {
  const lines = key
    .trim()
    .split(/\r?\n/)
    .map((line) => (line === '' ? ' .' : ` ${line}`));
  return `Types: deb\nURIs: ${uri}\nSuites: ${suite}\nComponents: main\nSigned-By:\n${lines.join('\n')}`;
};

/** A repository as dnf and zypper are told of it: the index is signed, and so are packages (source: dnf.conf(5)). */
const repoFile = (base: string, suite: string, format: RepositoryFormat): string => {
  const name = format === 'rpm' ? suite : `${format}-${suite}`;
  return `[kiln-${name}]
name=Kiln ${name}
baseurl=${base}/dists/${suite}/
enabled=1
repo_gpgcheck=1
gpgcheck=1
gpgkey=file://${RPM_KEY}`;
};

/** Throws `bad-request`. */
const channelOption = (context: Context): PublicationView['channel'] => {
  const given = context.option('to') ?? 'staging';
  if (given === 'staging' || given === 'stable') return given;
  throw new KilnError('bad-request', '--to takes staging or stable');
};

/** Throws `bad-request`. */
const formatsOption = (context: Context): RepositoryFormat[] =>
  (listOption(context, 'format') ?? ['deb']).map((given) => {
    const known = REPOSITORY_FORMATS.find((each) => each === given);
    if (known !== undefined) return known;
    throw new KilnError('bad-request', `--format takes ${REPOSITORY_FORMATS.join(', ')}`);
  });

const describe = ({ publications, repositories }: RepositoriesView): string => {
  if (publications.length === 0)
    return 'nothing is published; kiln repo publish SOURCE publishes a source’s packages';
  const published = publications.map(({ source, formats, channel, isHeld, madeBy, problem }) => [
    source,
    formats.join(', '),
    isHeld ? 'held' : channel,
    madeBy.name,
    problem ?? '',
  ]);
  const rows = repositories.map((each) => [
    each.format,
    suiteName(each),
    String(each.packages.length),
    stateOf(each),
  ]);
  return [
    table([['SOURCE', 'FORMATS', 'NEW GOES TO', 'PUBLISHED BY', 'PROBLEM'], ...published]),
    ...(rows.length === 0 ? [] : ['', table([['FORMAT', 'SUITE', 'PACKAGES', 'STATE'], ...rows])]),
  ].join('\n');
};

const stateOf = ({ problem, isCurrent, isServed, validUntil }: RepositoryView): string => {
  if (problem !== null) return problem;
  if (!isServed) return 'being signed';
  const until = new Date(validUntil).toISOString().slice(0, 10);
  return `${isCurrent ? 'served' : 'served, being signed anew'}, good until ${until}`;
};

/** Commands for repositories of packages. */
export const REPO_COMMANDS: readonly Command[] = [
  list,
  publish,
  promote,
  hold,
  unpublish,
  sources,
  repositoryKey,
];
