import type { Digest } from '../digest.ts';
import { KilnError } from '../errors.ts';
import { buildIdOf, fingerprintOf } from '../build/fingerprint.ts';
import type { SignJob } from './jobs.ts';
import { modinfoValue, readModuleFile } from '../module/module-file.ts';
import { splitModule } from '../module/module-signature.ts';
import { builtNameOf } from '../build/recipe.ts';

/** The signer's own checks before it signs: it relies only on what it can work out itself. */

const refuse = (message: string): KilnError => new KilnError('unverified', message);

/**
 * Checks that all of a job belongs to one build: the fingerprint to its inputs, the id to the fingerprint, the script to this signer, the
 * modules to the recipe. Throws `KilnError('unverified')`.
 */
export const checkSignJob = (job: SignJob, script: Digest): void => {
  const { inputs, recipe, modules } = job;
  if (fingerprintOf(inputs) !== job.fingerprint)
    throw refuse('its fingerprint does not match its inputs');
  if (buildIdOf(job.fingerprint) !== job.build)
    throw refuse('its id does not match its fingerprint');
  if (inputs.script !== script)
    throw refuse(
      'it was built with another version of the build script than the signer’s; build it again',
    );
  const names = new Set(modules.map(({ name }) => name));
  if (names.size !== modules.length) throw refuse('two of its modules have the same name');
  if (recipe.modules.kind !== 'listed') return;
  const listed = new Set(recipe.modules.list.map(({ name }) => name));
  const stray = [...names].find((name) => !listed.has(name));
  if (stray !== undefined) throw refuse(`its recipe makes no module ${stray}`);
};

/** Checks that bytes are an unsigned module of that name, for the kernel of the job. Throws `KilnError('unverified')`. */
export const checkModuleToSign = (bytes: Buffer, name: string, job: SignJob): void => {
  if (splitModule(bytes) !== null) throw refuse(`${name}.ko is signed already`);
  const module = readModuleFile(bytes);
  const { release, arch } = job.inputs.kernel;
  const called = modinfoValue(module, 'name') ?? '';
  const expected = builtNameOf(name, job.recipe);
  if (called.replaceAll('-', '_') !== expected.replaceAll('-', '_'))
    throw refuse(`${name}.ko calls itself ${JSON.stringify(called.slice(0, 80))}`);
  if (module.arch !== arch)
    throw refuse(`${name}.ko is for ${module.arch ?? 'an unknown CPU'}, not ${arch}`);
  const [built = ''] = (modinfoValue(module, 'vermagic') ?? '').split(' ');
  if (built !== release)
    throw refuse(`${name}.ko is for kernel ${JSON.stringify(built.slice(0, 80))}, not ${release}`);
};
