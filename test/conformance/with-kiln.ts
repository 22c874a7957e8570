import type { KilnService } from '../machine/kiln-service.ts';
import type { Subject } from './matrix.ts';
import { tell, type Fared } from './with-dkms.ts';

interface Build {
  readonly id: string;
  readonly state: string;
  readonly cached?: boolean;
  readonly modules: readonly { readonly name: string; readonly unsigned: string }[];
}

const OUTCOMES: Readonly<Record<string, Fared['outcome']>> = {
  succeeded: 'built',
  excluded: 'excluded',
  failed: 'failed',
};

/** Builds a pushed source with the shipped client; the time is the client's, from its start to its end. */
export const buildWithKiln = async (
  kiln: Pick<KilnService, 'kiln'>,
  subject: Subject,
  kernel: string,
  toolchain: string,
): Promise<Fared> => {
  const started = performance.now();
  const { stdout, stderr } = await kiln.kiln(
    'build',
    `${subject.name}/${subject.version}`,
    `--kernel=${kernel}`,
    `--toolchain=${toolchain}`,
    '--json',
    '--quiet',
  );
  const seconds = (performance.now() - started) / 1000;
  const build = JSON.parse(stdout) as Build;
  if (!('state' in build)) throw new Error(`kiln build ${subject.name}: ${stderr}`);
  const outcome = OUTCOMES[build.state];
  if (outcome === undefined) throw new Error(`build ${build.id} is ${build.state}`);
  if (build.cached === true)
    throw new Error(`build ${build.id} was there already: no time to measure`);
  const modules = Object.fromEntries(
    build.modules.map(({ name, unsigned }) => [`${name}.ko`, unsigned.slice('sha256:'.length)]),
  );
  const log = outcome === 'failed' ? (await kiln.kiln('logs', build.id)).stdout : '';
  return { outcome, seconds, modules, ...(outcome === 'failed' ? { errors: tell(log) } : {}) };
};
