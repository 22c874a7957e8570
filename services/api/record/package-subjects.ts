import { KilnError } from '../../core/errors.ts';
import { loadingOf } from '../../core/packages/in-tree.ts';
import { kernelPackageVersion } from '../../core/packages/names.ts';
import type { ModulesSubject } from '../../core/packages/subject.ts';
import type { Blobs } from '../../storage/blobs.ts';
import type { Database } from '../../storage/database.ts';
import { fromJson } from '../../storage/json-text.ts';
import type { KabiReader } from '../../storage/read-kabi.ts';
import { buildView } from './build-views.ts';
import { filesOf } from '../../core/protocol/build.ts';
import type { PackageAsking } from './packages.ts';
import { loadBuild } from './records.ts';

/** What is known of builds, and of what they made. */
export interface SubjectDeps {
  readonly db: Database;
  readonly blobs: Blobs;
  /** The key whose signatures count. */
  readonly key: string;
  /** Tells what stored modules need of a kernel. */
  readonly readKabi: KabiReader;
}

/**
 * What the package of a build's modules is made of, its revision aside. Throws `not-found`, `withdrawn`, or `conflict` where the build
 * has no modules that the service's key signed, or none that the format can pack.
 */
export const modulesSubject = async (
  { db, blobs, key, readKabi }: SubjectDeps,
  id: string,
  { format, inTree = [] }: Pick<PackageAsking, 'format' | 'inTree'>,
): Promise<Omit<ModulesSubject, 'revision'>> => {
  const view = await buildView(db, id);
  if (view.withdrawn !== null) throw new KilnError('withdrawn', view.withdrawn);
  if (view.state !== 'succeeded')
    throw new KilnError(
      'conflict',
      `build ${id} is ${view.state}; packages are made of builds that have succeeded`,
    );
  if (view.signature?.kind !== 'signed' || view.signature.key !== key || view.attestation === null)
    throw new KilnError(
      'conflict',
      `build ${id} is not signed with this service’s key${view.signature?.kind === 'unsigned' ? ` (${view.signature.reason})` : ''}; packages are made of signed modules alone: ask for the build again`,
    );
  const { build, kernel, source } = await loadBuild(db, id);
  if (format === 'kmp' && view.recipe?.['mayLink'] === false)
    throw new KilnError(
      'conflict',
      `no kmp can be made of ${source.name}, whose modules are for one kernel each (NO_WEAK_MODULES); make an rpm of it`,
    );
  const needs = [...new Set(fromJson(build.inputs).dependencies.map(({ name }) => name))];
  if (format === 'oci' && needs.length > 0)
    throw new KilnError(
      'conflict',
      `no oci can be made of ${source.name}, which is built against ${needs.join(', ')}: an image has the modules of one source; make a deb or an rpm of it`,
    );
  const sizeOf = async (digest: typeof view.attestation): Promise<number> => {
    const info = digest === null ? null : await blobs.find(digest);
    if (info !== null) return info.size;
    throw new KilnError(
      'not-found',
      `what build ${id} made is not stored any more; make it again (kiln rebuild ${id})`,
    );
  };
  const modules: ModulesSubject['modules'][number][] = [];
  for (const { name, signed, modinfo } of view.modules) {
    if (signed === null) throw new Error(`${name}.ko of the signed build ${id} is not signed`);
    const license = modinfo.find(([field]) => field === 'license')?.[1] ?? 'unknown';
    modules.push({
      name,
      signed,
      size: await sizeOf(signed),
      license: license.replaceAll(/[^\x20-\x7e]/g, '?').slice(0, 200),
    });
  }
  const files: ModulesSubject['files'][number][] = [];
  for (const [place, digest] of Object.entries(filesOf(view)))
    files.push({ place, digest, size: await sizeOf(digest) });
  return {
    kind: 'modules',
    build: id,
    source: { name: source.name, version: source.version },
    kernel: {
      release: kernel.release,
      arch: kernel.arch,
      version: kernelPackageVersion(kernel.release, kernel.build),
    },
    modules,
    files,
    needs,
    attestation: { digest: view.attestation, size: await sizeOf(view.attestation) },
    ...(format === 'kmp' ? { kabi: await readKabi(modules) } : {}),
    ...(format === 'oci' ? { loading: loadingOf(view.modules, inTree, kernel.release) } : {}),
  };
};
