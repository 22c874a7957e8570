import { isSameJson } from '../format/canonical-json.ts';
import { KilnError } from '../errors.ts';
import { buildIdOf } from '../build/fingerprint.ts';
import type { ModulesSubject, SettingsSubject } from '../packages/subject.ts';
import type { Attested } from './attested.ts';

/** What may be in a repository: packages of which a signed provenance tells what is in them. */

const refuse = (message: string): KilnError => new KilnError('unverified', message);

/** Compares what a package of modules is said to be made of with the provenance that it names. Throws `KilnError('unverified')`. */
export const mustBeAttestedModules = (subject: ModulesSubject, attested: Attested): void => {
  const { inputs, modules, fingerprint } = attested;
  const called = `the package of build ${subject.build}`;
  const said: readonly (readonly [what: string, said: unknown, signed: unknown])[] = [
    ['build', subject.build, buildIdOf(fingerprint)],
    ['source', subject.source, { name: inputs.source.name, version: inputs.source.version }],
    [
      'kernel',
      [subject.kernel.release, subject.kernel.arch],
      [inputs.kernel.release, inputs.kernel.arch],
    ],
    [
      'modules',
      subject.modules.map(({ name, signed }) => `${name} ${signed}`).sort(),
      [...modules].map(([name, { signed }]) => `${name} ${signed}`).sort(),
    ],
    ['files', filesOf(subject), inputs.files ?? {}],
    [
      'dependencies',
      subject.needs.toSorted(),
      [...new Set(inputs.dependencies.map(({ name }) => name))].sort(),
    ],
  ];
  for (const [what, one, other] of said)
    if (!isSameJson(one, other)) throw refuse(`${called} is not what was signed (${what})`);
};

/** Checks that some package of modules says by its provenance that its source brings these settings. Throws `KilnError('unverified')`. */
export const mustBringSettings = (
  subject: SettingsSubject,
  modules: readonly ModulesSubject[],
): void => {
  const isBrought = modules.some(
    (each) =>
      isSameJson(each.source, subject.source) && isSameJson(filesOf(each), filesOf(subject)),
  );
  if (!isBrought)
    throw refuse(
      `the settings of ${subject.source.name}/${subject.source.version} are those of no package beside them`,
    );
};

const filesOf = ({ files }: Pick<SettingsSubject, 'files'>): Readonly<Record<string, string>> =>
  Object.fromEntries(files.map(({ place, digest }) => [place, digest]));
