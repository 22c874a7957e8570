import type { Arch } from '../arch.ts';
import { moduleNameOf } from '../module/module-name.ts';
import { firmwarePath } from '../source/host-files.ts';
import { mustBeModules, provenanceFile, settingsIn } from './contents.ts';
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

/** What is in such an image. Throws `KilnError('conflict')` for all but modules, and for too many bytes. */
export const ociPlan = (subject: PackageSubject): PackagePlan => {
  mustBeModules(subject);
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
      { place: `${home}/modules.softdep`, content: { text: softdepsOf(subject) } },
      ...EMPTY.map((each): PlannedFile => ({ place: `${home}/${each}`, content: { index: '' } })),
      ...files.flatMap(({ place, digest }): PlannedFile[] => {
        const path = firmwarePath(place);
        return path === null ? [] : [{ place: `/firmware/${path}`, content: { blob: digest } }];
      }),
      ...settingsIn(subject),
      provenanceFile(subject, name),
    ],
  };
};

const placeOf = ({ source }: ModulesSubject, name: string): string =>
  `updates/${source.name}/${name}.ko`;

/** A module of the index: where it is, and the names of those that it needs itself. */
interface Node {
  readonly path: string;
  readonly needs: readonly string[];
}

/** A line of the index: a module's path, and those of all that it needs, over all layers. */
interface IndexLine extends Node {
  readonly name: string;
}

const pathLine = ({ path, needs }: IndexLine): string =>
  `${path}:${needs.map((each) => ` ${each}`).join('')}\n`;
const nameLine = (line: IndexLine): string => `${line.name} ${pathLine(line)}`;

/** The image's modules, and those of the kernel's own that they need. Of one name the image's is the one. */
const indexOf = (subject: ModulesSubject): readonly IndexLine[] => {
  const { modules = [], inTree = [] } = subject.loading ?? {};
  const nodes = new Map<string, Node>();
  for (const { name, depends } of modules)
    nodes.set(moduleNameOf(name), { path: placeOf(subject, name), needs: depends });
  for (const { path, needs } of inTree) {
    const name = moduleNameOf(path);
    if (!nodes.has(name)) nodes.set(name, { path: `host/${path}`, needs: needs.map(moduleNameOf) });
  }
  return [...nodes].map(([name, { path }]) => ({ name, path, needs: lastFirst(name, nodes) }));
};

/** The paths of all that a module needs, over all layers: what is to be loaded first is last. */
const lastFirst = (module: string, nodes: ReadonlyMap<string, Node>): readonly string[] => {
  const found: string[] = [];
  const begun = new Set<string>();
  const visit = (name: string): void => {
    const node = nodes.get(name);
    if (node === undefined || begun.has(name)) return;
    begun.add(name);
    node.needs.toReversed().forEach(visit);
    found.push(node.path);
  };
  visit(module);
  return found.slice(0, -1).toReversed();
};

/** What depmod would write of the soft dependencies that the modules themselves name. */
const softdepsOf = ({ loading }: ModulesSubject): string =>
  (loading?.modules ?? [])
    .flatMap(({ name, softdeps }) =>
      softdeps.map((softdep) => `softdep ${moduleNameOf(name)} ${softdep}\n`),
    )
    .join('');
