import { mkdir, readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { z } from 'zod';
import { hasErrno, KilnError } from '../../services/core/errors.ts';
import { SOURCE_NAME, SOURCE_VERSION } from '../../services/core/source/source.ts';
import { CreateBuild } from '../../services/core/protocol/build.ts';
import { placeToChange, placeToRead, type Host } from '../host/host.ts';
import type { Change } from '../transaction/change.ts';
import { writeWhole } from '../transaction/whole-file.ts';

/** The sources that every kernel of this host shall have: those that were installed by name, until they are removed. */
const Wanted = z.array(
  z.object({
    name: z.string().regex(SOURCE_NAME),
    /** The version that was named; `null` follows the newest. */
    version: z.string().regex(SOURCE_VERSION).nullable(),
    /** The toolchain, waivers and settings that it is asked for with, each time. */
    how: CreateBuild.pick({ toolchain: true, waive: true, settings: true }),
  }),
);
export type Wanted = z.infer<typeof Wanted>;

const WANTED = 'var/lib/kiln/wanted.json';
const FAILURES = 'var/lib/kiln/failures.json';

export const readWanted = (host: Host): Promise<Wanted> => readJson(host, WANTED, Wanted, []);

/** The change that writes the list of wanted sources. Of two entries for one name the later counts. */
export const wantedChange = (wanted: Wanted): Change => ({
  path: WANTED,
  to: wanted.length === 0 ? null : Buffer.from(`${JSON.stringify(wanted, null, 2)}\n`),
});

/** The wanted sources of both lists; where both name one, as `now` has it. */
export const mergeWanted = (before: Wanted, now: Wanted): Wanted => [
  ...before.filter(({ name }) => !now.some((each) => each.name === name)),
  ...new Map(now.map((each) => [each.name, each])).values(),
];

/** Why a module could not be had for a kernel: the first error, and since when. */
const Failures = z.array(
  z.object({
    name: z.string(),
    release: z.string(),
    code: z.string(),
    message: z.string(),
    since: z.number(),
  }),
);
export type Failure = z.infer<typeof Failures>[number];

export const readFailures = (host: Host): Promise<readonly Failure[]> =>
  readJson(host, FAILURES, Failures, []);

/**
 * Notes the results of attempts. A success (`problem` is `null`) clears the entry; a repeated failure keeps the time of the first.
 * The caller holds the lock.
 */
export const noteFailures = async (
  host: Host,
  attempts: readonly {
    readonly name: string;
    readonly release: string;
    readonly problem: KilnError | null;
  }[],
): Promise<void> => {
  const before = await readFailures(host);
  const isSame = (a: { name: string; release: string }, b: { name: string; release: string }) =>
    a.name === b.name && a.release === b.release;
  const untouched = before.filter((each) => !attempts.some((attempt) => isSame(attempt, each)));
  const failed = attempts.flatMap(({ name, release, problem }) => {
    if (problem === null) return [];
    const earlier = before.find((each) => isSame(each, { name, release }));
    return [
      {
        name,
        release,
        code: problem.code,
        message: firstLine(problem.message),
        since: earlier?.since ?? Date.now(),
      },
    ];
  });
  if (before.length === 0 && failed.length === 0) return;
  const path = await placeToChange(host, FAILURES);
  await mkdir(dirname(path), { recursive: true, mode: 0o755 });
  await writeWhole(path, Buffer.from(`${JSON.stringify([...untouched, ...failed], null, 2)}\n`));
};

const LINE = 300;
const firstLine = (message: string): string =>
  message
    .split('\n')
    .map((line) => line.trim())
    .find((line) => line !== '')
    ?.slice(0, LINE) ?? '';

const readJson = async <T>(
  host: Host,
  path: string,
  schema: z.ZodType<T>,
  otherwise: T,
): Promise<T> => {
  const place = await placeToRead(host, path);
  try {
    return schema.parse(JSON.parse(await readFile(place, 'utf8')));
  } catch (cause) {
    if (hasErrno(cause, 'ENOENT')) return otherwise;
    throw new KilnError('install-failed', `${place} is damaged; remove it and install again`, {
      cause,
    });
  }
};
