import { setTimeout as sleep } from 'node:timers/promises';
import { KilnError } from '../../services/core/errors.ts';
import { filesOf, type BuildView } from '../../services/core/protocol/build.ts';
import { onlyArgument, table, type Command } from '../command.ts';

/** A build in a few lines. */
export const describeBuild = (build: BuildView): string =>
  table([
    ['build', build.id],
    ['state', build.state],
    ['source', `${build.source.name}/${build.source.version}  ${build.source.digest}`],
    ['kernel', `${build.kernel.release}  ${build.kernel.digest}`],
    ['compiler', build.kernel.compiler],
    ['toolchain', `${build.toolchain.name}  ${build.toolchain.digest}`],
    ['fingerprint', build.fingerprint],
    ...build.modules.flatMap(({ name, unsigned, signed }) => [
      [`${name}.ko`, `unsigned  ${unsigned}`],
      ...(signed === null ? [] : [['', `signed    ${signed}`]]),
    ]),
    ...Object.entries(filesOf(build)).map(([place, digest]) => [place, `for hosts ${digest}`]),
    ...(build.signature?.kind === 'unsigned' ? [['not signed', build.signature.reason]] : []),
    ...(build.stale === null
      ? []
      : [['stale', 'newer headers of this release have come since it was built']]),
    ['asked by', build.madeBy.name],
    ...(build.withdrawn === null ? [] : [['withdrawn', build.withdrawn]]),
    ...(build.exclusion === null ? [] : [['excluded', build.exclusion]]),
    ...(build.failure === null
      ? []
      : [['failure', `${build.failure.message} (${build.failure.code})`]]),
  ]);

const show: Command = {
  name: 'show',
  args: 'BUILD',
  summary: 'show a build: its state, and all that its fingerprint covers (--json)',
  help: '',
  options: {},
  async run(context) {
    const found = await context.service.build(onlyArgument(context, 'build'));
    const packages = await context.service.packagesOf(found.id);
    const rows = packages.map(({ file, state, digest }) => ['package', file, digest ?? state]);
    context.print([describeBuild(found), ...(rows.length === 0 ? [] : [table(rows)])].join('\n'), {
      ...found,
      packages,
    });
  },
};

const list: Command = {
  name: 'list',
  args: '',
  summary: 'list the latest builds',
  help: `      --limit N          so many (default 200)`,
  options: { limit: { type: 'string' } },
  async run(context) {
    const text = context.option('limit') ?? '200';
    if (!/^[1-9]\d{0,5}$/.test(text))
      throw new KilnError('bad-request', '--limit takes a number from 1 to 999999');
    const builds = await context.service.builds(Number(text));
    const rows = builds.map(({ id, state, stale, withdrawn, source, kernel, madeBy }) => [
      id,
      [
        state,
        ...(stale === null ? [] : ['stale']),
        ...(withdrawn === null ? [] : ['withdrawn']),
      ].join(', '),
      `${source.name}/${source.version}`,
      kernel.release,
      madeBy.name,
    ]);
    context.print(table([['BUILD', 'STATE', 'SOURCE', 'KERNEL', 'ASKED BY'], ...rows]), builds);
  },
};

const logs: Command = {
  name: 'logs',
  args: 'BUILD',
  summary: 'print a build’s log so far',
  help: '',
  options: {},
  async run(context) {
    const log = await context.service.log(onlyArgument(context, 'build'));
    context.print(log.trimEnd(), { log });
  },
};

const rebuild: Command = {
  name: 'rebuild',
  args: 'BUILD',
  summary: 'make a finished build again and compare the bytes (ci)',
  help: `A build of which a module differs is withdrawn: hosts are not given it any more until an admin says
otherwise (kiln withdraw build BUILD --undo). Ends with 0 if all modules are the same, 6 if one differs, 1 if it failed.`,
  options: {},
  async run(context) {
    const id = onlyArgument(context, 'build');
    let state = await context.service.rebuild(id);
    while (state.state === 'running') {
      context.progress.step(`rebuilding ${id}`);
      await sleep(200, undefined, { signal: context.signal });
      state = await context.service.rebuildState(state.id);
    }
    context.progress.done();
    const found = state.findings.join(', ');
    if (state.state === 'failed')
      throw new KilnError('build-failed', `the rebuild failed: ${found}`);
    if (state.state === 'different') {
      throw new KilnError(
        'unverified',
        `one fingerprint, other bytes: ${found}; either the source puts in what is another each time (random numbers, a count), or Kiln did not hold still what it should. To tell, make it twice on one machine with dkms or make: if those differ in the same places, it is the source’s; if not, it is a defect, please report it. The build is withdrawn until an admin puts it back (kiln withdraw build ${id} --undo)`,
      );
    }
    context.print(`the same bytes again: build ${id}`, state);
  },
};

const cancel: Command = {
  name: 'cancel',
  args: 'BUILD',
  summary: 'cancel a build for everyone who waits for it (admin)',
  help: '',
  options: {},
  async run(context) {
    const cancelled = await context.service.cancel(onlyArgument(context, 'build'), null);
    context.print(describeBuild(cancelled), cancelled);
  },
};

/** Commands for builds that have been asked for. */
export const BUILDS_COMMANDS: readonly Command[] = [show, list, logs, rebuild, cancel];
