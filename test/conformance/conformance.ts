import { appendFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { cpus as machineCpus } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { connectDocker } from '../../services/builder/docker.ts';
import { digestOf, type Digest } from '../../services/core/digest.ts';
import { readBuildScript } from '../../services/storage/build-script.ts';
import { debianHeaders } from '../machine/debian.ts';
import { pinToolchain, startKiln, type KilnService } from '../machine/kiln-service.ts';
import { DKMS_TOOLCHAIN, WORK } from '../machine/places.ts';
import { allKernels, allPackages, subjectOf, type Subject } from './matrix.ts';
import { isSame, reportOf, type Line } from './report.ts';
import { buildWithDkms } from './with-dkms.ts';
import { buildWithKiln } from './with-kiln.ts';

/**
 * Builds Debian's module sources with Kiln and with Debian's own dkms, on the same input, one after the other on an otherwise idle
 * machine, and compares outcomes, bytes and times. What was built is kept, so that an interrupted run goes on where it was.
 *
 * usage   npm run conformance [-- --only PACKAGE,…] [--kernels RELEASE,…] [--json FILE] [--table FILE] [--again | --report]
 *           --again builds these anew, --report builds nothing: it tells of what was built so far
 * output  a table in Markdown, with --table also in a file; with --json also [{source, version, kernel, kiln: {outcome, seconds, modules}, dkms: {…}}]
 * exit    0 all lines equal or explained · 1 a line differs
 */

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    kernels: { type: 'string' },
    json: { type: 'string' },
    table: { type: 'string' },
    again: { type: 'boolean' },
    report: { type: 'boolean' },
  },
});
const say = (text: string): void => void process.stderr.write(`${text}\n`);
const place = join(WORK, 'conformance');
const kept = join(place, 'lines.jsonl');
await mkdir(place, { recursive: true });

const packages = values.only?.split(',') ?? (await allPackages());
const kernels = values.kernels?.split(',') ?? (await allKernels());
const cpus = machineCpus().length;
// Lines of another build script are another run's.
const script = digestOf(readBuildScript()).slice(0, 16);

const known = new Map<string, Line>();
for (const text of (await readFile(kept, 'utf8').catch(() => '')).split('\n')) {
  if (text === '') continue;
  const { key, line } = JSON.parse(text) as { key: string; line: Line };
  known.set(key, line);
}
const keyOf = (name: string, kernel: string): string => `${name} ${kernel} ${script}`;

interface Bench {
  readonly kiln: KilnService;
  readonly toolchain: string;
  readonly image: string;
  readonly kernels: ReadonlyMap<string, string>;
}

const setUp = async (label: string): Promise<Bench> => {
  const data = join(place, label);
  await rm(data, { recursive: true, force: true });
  const kiln = await startKiln(data, { KILN_LOG_LEVEL: 'warn', KILN_BUILD_SECONDS: '3600' });
  say('pinning the toolchain');
  const toolchain = (await pinToolchain(kiln, DKMS_TOOLCHAIN)) as Digest;
  const image = (await connectDocker('/var/run/docker.sock').findImage(toolchain)) ?? '';
  const digests = new Map<string, string>();
  for (const release of kernels) {
    say(`pushing the headers of ${release}`);
    const { digest } = await kiln.json<{ digest: string }>(
      'kernel',
      'push',
      await debianHeaders(release),
    );
    digests.set(release, digest);
  }
  return { kiln, toolchain, image, kernels: digests };
};

const push = async ({ kiln }: Bench, { deb, name, version }: Subject): Promise<void> => {
  await kiln.json('source', 'push', deb, '--name', name, '--version', version);
};

const HEAD = `# Kiln beside DKMS

Debian 12's module sources, built by Kiln and by Debian's own dkms on the same input: the same image, headers and number of CPUs, one after
the other on one machine. Written by \`npm run conformance -- --table test/conformance/RESULTS.md\`. Kiln's seconds are the client's, from its
start to its end, container and signature included; DKMS's are those of \`dkms build\` alone, inside a container that runs already.

`;

const lines: Line[] = [];
// The two that take minutes come last, so that an interrupted run has most of the table.
const LONG = ['openafs-modules-dkms', 'zfs-dkms'];
const inOrder = (long: boolean): readonly { name: string; kernel: string }[] =>
  kernels.flatMap((kernel) =>
    packages.filter((name) => LONG.includes(name) === long).map((name) => ({ name, kernel })),
  );
const todo = [...inOrder(false), ...inOrder(true)];
if (values.again === true) {
  for (const { name, kernel } of todo) known.delete(keyOf(name, kernel));
  const others = [...known].map(([key, line]) => `${JSON.stringify({ key, line })}\n`);
  await writeFile(kept, others.join(''));
}
const isKnown = ({ name, kernel }: { name: string; kernel: string }): boolean =>
  known.has(keyOf(name, kernel));

if (values.report !== true && !todo.every(isKnown)) {
  const bench = await setUp('kiln');
  try {
    // The first build of a kernel unpacks its headers on the builder: at hand from here on.
    const warm = await subjectOf('v4l2loopback-dkms');
    await bench.kiln.json('source', 'push', warm.deb, '--name', 'warm-up', '--version', '1');
    for (const digest of bench.kernels.values())
      await bench.kiln.kiln('build', 'warm-up/1', '-k', digest, '-q');
    for (const { name, kernel } of todo) {
      if (isKnown({ name, kernel })) continue;
      const subject = await subjectOf(name);
      await push(bench, subject);
      const number = `${todo.findIndex((each) => each.name === name && each.kernel === kernel) + 1}/${todo.length}`;
      say(`${number} ${name} on ${kernel}: Kiln`);
      const kiln = await buildWithKiln(
        bench.kiln,
        subject,
        bench.kernels.get(kernel) ?? '',
        bench.toolchain,
      );
      say(
        `${number} ${name} on ${kernel}: Kiln ${kiln.outcome} in ${kiln.seconds.toFixed(1)} s; DKMS`,
      );
      const dkms = await buildWithDkms(subject, kernel, bench.image, cpus);
      say(`${number} ${name} on ${kernel}: DKMS ${dkms.outcome} in ${dkms.seconds.toFixed(1)} s`);
      const line: Line = { source: name, version: subject.version, kernel, kiln, dkms };
      if (dkms.outcome === 'built' && !isSame(kiln, dkms)) {
        say(`${number} ${name} on ${kernel}: other bytes; DKMS once more, told to be reproducible`);
        const again = await buildWithDkms(subject, kernel, bench.image, cpus, '@1000000000');
        line.dkmsToldToBeReproducible = again.modules;
        const shown = JSON.parse((await bench.kiln.kiln('list', '--json')).stdout) as {
          id: string;
        }[];
        line.kilnRepeats = (await bench.kiln.kiln('rebuild', shown[0]?.id ?? '')).status === 0;
      }
      known.set(keyOf(name, kernel), line);
      await appendFile(kept, `${JSON.stringify({ key: keyOf(name, kernel), line })}\n`);
    }
  } finally {
    await bench.kiln.stop();
  }
}
for (const { name, kernel } of todo) {
  const line = known.get(keyOf(name, kernel));
  if (line !== undefined) lines.push(line);
}
const missing = todo.filter((each) => !isKnown(each));
const { text: table, isAllWell } = reportOf(lines);
const text =
  missing.length === 0
    ? table
    : `${table}Not built (yet): ${missing.map(({ name, kernel }) => `${name} on ${kernel}`).join(', ')}.\n`;
process.stdout.write(text);
if (values.table !== undefined) await writeFile(values.table, `${HEAD}${text}`);
if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify(lines, null, 2)}\n`);
process.exit(isAllWell ? 0 : 1);
