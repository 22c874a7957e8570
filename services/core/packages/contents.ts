import { KilnError } from '../errors.ts';
import { firmwarePath } from '../source/host-files.ts';
import { COMMON_FILES } from './common-package.ts';
import type { PlannedFile } from './plan.ts';
import type { ModulesSubject, PackageSubject, SettingsSubject } from './subject.ts';

/** What packages of all formats have: the files and where they go. */

/** A package's files, but for its documents. */
export const contentOf = (subject: PackageSubject): readonly PlannedFile[] => {
  switch (subject.kind) {
    case 'modules':
      return [...modulesOf(subject), ...firmwareOf(subject)];
    case 'settings':
      return settingsOf(subject);
    case 'flavour':
      return [];
    case 'common':
      return COMMON_FILES;
  }
};

/** The place of a module: depmod prefers what is in `updates` to the kernel's own. */
const modulesOf = ({ source, kernel, modules }: ModulesSubject): readonly PlannedFile[] =>
  modules.map(({ name, signed }) => ({
    place: `/lib/modules/${kernel.release}/updates/${source.name}/${name}.ko`,
    content: { blob: signed },
  }));

/** The place of firmware: one that only the kernel of this release looks at. */
const firmwareOf = ({ kernel, files }: ModulesSubject): readonly PlannedFile[] =>
  files.flatMap(({ place, digest }) => {
    const path = firmwarePath(place);
    return path === null
      ? []
      : [
          {
            place: `/lib/firmware/updates/${kernel.release}/${path}`,
            content: { blob: digest },
          },
        ];
  });

const settingsOf = ({ files }: SettingsSubject): readonly PlannedFile[] =>
  files.flatMap(({ place, digest }) =>
    firmwarePath(place) === null ? [{ place, content: { blob: digest } }] : [],
  );

/** The settings that a source brings, for images, which have all that is a source's: other formats have them in a package of their own. */
export const settingsIn = ({ source, files }: ModulesSubject): readonly PlannedFile[] =>
  settingsOf({ kind: 'settings', source, files, licenses: [], revision: 1 });

/** The most bytes of an image's files: it is made in memory. */
const IMAGE_LIMIT = 256 * 1024 ** 2;

/** Throws `KilnError('conflict')` for a subject of which there is no image: all but modules, as theirs has the rest, and too many bytes. */
export function mustBeModules(subject: PackageSubject): asserts subject is ModulesSubject {
  if (subject.kind !== 'modules')
    throw new KilnError('conflict', 'an image of modules has all that is theirs in it');
  const { source, modules, files } = subject;
  const sum = [...modules, ...files].reduce((all, { size }) => all + size, 0);
  if (sum > IMAGE_LIMIT)
    throw new KilnError(
      'conflict',
      `an image of ${source.name} would have ${sum} bytes, over the limit of ${IMAGE_LIMIT}; make a deb or an rpm of it`,
    );
}

/** The signed provenance, among the documents of an image. */
export const provenanceFile = ({ attestation }: ModulesSubject, name: string): PlannedFile => ({
  place: `/usr/share/doc/${name}/provenance.json`,
  content: { blob: attestation.digest },
});

/** Whether a source brings settings, which go into a package of their own: all kernels' packages would have the same files. */
export const bringsSettings = ({ files }: Pick<ModulesSubject, 'files'>): boolean =>
  files.some(({ place }) => firmwarePath(place) === null);

/** What a subject's modules say of their licenses. */
export const licensesOf = (subject: ModulesSubject | SettingsSubject): readonly string[] =>
  subject.kind === 'settings'
    ? subject.licenses
    : [...new Set(subject.modules.map(({ license }) => license))].sort();

/** Bytes of a package's files on a host. */
export const contentSizes = (subject: PackageSubject): readonly number[] => {
  switch (subject.kind) {
    case 'modules':
      return [
        ...subject.modules.map(({ size }) => size),
        ...subject.files.flatMap(({ place, size }) => (firmwarePath(place) === null ? [] : size)),
        subject.attestation.size,
      ];
    case 'settings':
      return subject.files.flatMap(({ place, size }) => (firmwarePath(place) === null ? size : []));
    case 'flavour':
    case 'common':
      return [];
  }
};
