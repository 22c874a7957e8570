import { KilnError } from '../errors.ts';
import type { Arch } from '../arch.ts';
import { moduleNameOf } from '../module/module-name.ts';
import { firmwarePath } from '../source/host-files.ts';
import { mustFitMemory, settingsIn } from './contents.ts';
import { debVersion, modulesPackage } from './names.ts';
import type { PackagePlan, PlannedFile } from './plan.ts';
import type { ModulesSubject, PackageSubject } from './subject.ts';

/**
 * An image for containers in the layout that Kubernetes' Kernel Module Management (KMM) loads from: modules below
 * `/opt/lib/modules/RELEASE` with an index of kmod's, firmware below `/firmware`. What they need of the kernel's own is found through the link
 * `host`, which leads to the node's `/lib/modules/RELEASE` (sources: KMM's documentation of kmod images, modules.dep(5)).
 */

/** What containers' images call an architecture (Go's `GOARCH`). */
const ARCHITECTURE: Readonly<Record<Arch, string>> = {
  x86_64: 'amd64',
  i686: '386',
  aarch64: 'arm64',
  armv7l: 'arm',
  ppc64le: 'ppc64le',
  s390x: 's390x',
  riscv64: 'riscv64',
};

/** The other indexes that modprobe looks for: of nothing. */
const EMPTY = ['modules.alias.bin', 'modules.symbols.bin', 'modules.builtin.bin'];

/** What is in such an image. Throws `KilnError('conflict')` for all but modules, as it has the rest of them in it, and for too many bytes. */
export const ociPlan = (subject: PackageSubject): PackagePlan => {
  if (subject.kind !== 'modules')
    throw new KilnError('conflict', 'an image of modules has all that is theirs in it');
  mustFitMemory(subject);
  const { source, kernel, modules, files } = subject;
  const name = modulesPackage(source.name, kernel.release);
  const home = `/opt/lib/modules/${kernel.release}`;
  const index = indexOf(subject);
  return {
    format: 'oci',
    name,
    version: debVersion(subject),
    arch: ARCHITECTURE[kernel.arch],
    file: `${name}.oci.tar`,
    control: {
      // As KMM writes a kernel's release where it is a tag.
      tag: kernel.release.replaceAll(/[^A-Za-z0-9._-]/g, '_').slice(0, 128),
      title: `Kernel modules of ${source.name} ${source.version} for Linux ${kernel.release}`,
    },
    files: [
      ...modules.map((module): PlannedFile => ({
        place: `${home}/${placeOf(subject, module.name)}`,
        content: { blob: module.signed },
      })),
      { place: `${home}/host`, content: { link: `/lib/modules/${kernel.release}` } },
      { place: `${home}/modules.dep`, content: { text: index.map(pathLine).join('') } },
      { place: `${home}/modules.dep.bin`, content: { index: index.map(nameLine).join('') } },
      ...EMPTY.map((each): PlannedFile => ({ place: `${home}/${each}`, content: { index: '' } })),
      ...files.flatMap(({ place, digest }): PlannedFile[] => {
        const path = firmwarePath(place);
        return path === null ? [] : [{ place: `/firmware/${path}`, content: { blob: digest } }];
      }),
      ...settingsIn(subject),
      {
        place: `/usr/share/doc/${name}/provenance.json`,
        content: { blob: subject.attestation.digest },
      },
    ],
  };
};

const placeOf = ({ source }: ModulesSubject, name: string): string =>
  `updates/${source.name}/${name}.ko`;

/** A module's path in the image, and the paths of all that it needs. */
interface IndexLine {
  readonly path: string;
  readonly needs: readonly string[];
}

const pathLine = ({ path, needs }: IndexLine): string =>
  `${path}:${needs.map((each) => ` ${each}`).join('')}\n`;
const nameLine = (line: IndexLine): string => `${moduleNameOf(line.path)} ${pathLine(line)}`;

/** The lines of `modules.dep`: the image's modules, and those of the kernel's own that they need. */
const indexOf = (subject: ModulesSubject): readonly IndexLine[] => {
  const { depends = {}, inTree = [] } = subject.loading ?? {};
  /** What each needs itself, by path. */
  const needs = new Map<string, readonly string[]>();
  for (const each of inTree) needs.set(linked(each.path), each.needs.map(linked));
  const paths = new Map([
    ...inTree.map(({ path }) => [moduleNameOf(path), linked(path)] as const),
    ...subject.modules.map(({ name }) => [moduleNameOf(name), placeOf(subject, name)] as const),
  ]);
  for (const { name } of subject.modules)
    needs.set(
      placeOf(subject, name),
      (depends[name] ?? []).flatMap((each) => paths.get(each) ?? []),
    );
  return [...needs.keys()].map((path) => ({ path, needs: lastFirst(path, needs) }));
};

const linked = (path: string): string => `host/${path}`;

/** All that a module needs, over all layers: what is to be loaded first is last. */
const lastFirst = (
  module: string,
  needs: ReadonlyMap<string, readonly string[]>,
): readonly string[] => {
  const found = new Set<string>();
  const begun = new Set<string>();
  const visit = (path: string): void => {
    if (begun.has(path)) return;
    begun.add(path);
    (needs.get(path) ?? []).toReversed().forEach(visit);
    found.add(path);
  };
  visit(module);
  return [...found].slice(0, -1).toReversed();
};
