import { z } from 'zod';
import { canonicalJson, type Canonical } from '../format/canonical-json.ts';
import { digest, digestOf, type Digest } from '../digest.ts';
import { list } from '../schemas/domain.ts';
import { isComposed } from './packers.ts';

/** The kinds of packages that repositories have. */
export const REPOSITORY_FORMATS = ['deb', 'rpm', 'kmp'] as const;
export type RepositoryFormat = (typeof REPOSITORY_FORMATS)[number];

/** The kinds of packages that are made: those, an image that systemd-sysext merges, and one for containers. */
export const PACKAGE_FORMATS = [...REPOSITORY_FORMATS, 'sysext', 'oci'] as const;
export type PackageFormat = (typeof PACKAGE_FORMATS)[number];

/** The states of a package: it waits, a builder is at it, it is there, it could not be made, or it went and is made again when it is asked for. */
export const PACKAGE_STATES = ['queued', 'packing', 'made', 'failed', 'gone'] as const;
export type PackageState = (typeof PACKAGE_STATES)[number];

const TEXT_LIMIT = 1024 * 1024;
const FILES = 1024;
/** Relations of a package: what tracks the kABI has one for each symbol. */
const RELATIONS = 8192;
const text = z.string().max(TEXT_LIMIT);
/** A part of a path, or a name: nothing that a shell or a packer reads as anything else. */
const WORD = '[A-Za-z0-9][A-Za-z0-9._+~-]{0,254}';
/** A part of a path, which a module's name may begin with. */
const PART = '[A-Za-z0-9_-][A-Za-z0-9._+~-]{0,254}';
const word = z.string().regex(new RegExp(`^${WORD}$`));

/** A file of a package, at its place on a host. It belongs to root; everybody may read it. */
const PlannedFile = z.strictObject({
  place: z
    .string()
    .max(1024)
    .regex(new RegExp(`^(/${PART})+$`)),
  /**
   * A stored blob; a text; or a text that is packed with gzip, whose bytes are the packer's own. Of images for containers also what a
   * symbolic link says, and lines `KEY VALUE` that are laid down as an index of kmod's.
   */
  content: z.union([
    z.strictObject({ blob: digest }),
    z.strictObject({ text }),
    z.strictObject({ gzip: text }),
    z.strictObject({ link: z.string().min(1).max(1024) }),
    z.strictObject({ index: text }),
  ]),
  executable: z.literal(true).exactOptional(),
});
export type PlannedFile = z.infer<typeof PlannedFile>;

/** What an RPM package says of itself. */
const RpmHeader = z.strictObject({
  name: word,
  version: word,
  release: word,
  arch: word,
  license: z.string().max(1000),
  summary: z.string().max(1000),
  description: z.string().max(10_000),
  /** `NAME`, or `NAME = VERSION` with any of rpm's comparisons. */
  requires: list(z.string().max(700), RELATIONS),
  provides: list(z.string().max(700), RELATIONS),
  /** The program that is run once when modules came or went in a transaction, as rpm's file trigger, and as the package itself goes; `null` for none. */
  script: z.string().max(300).nullable(),
});
export type RpmHeader = z.infer<typeof RpmHeader>;

/** All that is in a package, worked out before it is made. What is made is then compared with this, by whoever is to rely on it. */
export const PackagePlan = z.strictObject({
  format: z.enum(PACKAGE_FORMATS),
  name: word,
  version: word,
  arch: word,
  /** The name of the package's own file. */
  file: word,
  /** What the packer is told besides the files: of a .deb, the files of its control part, of an .rpm its spec file. */
  control: z
    .record(z.string().regex(/^[a-z0-9]{1,32}$/), text)
    .refine((files) => Object.keys(files).length <= 8),
  files: list(PlannedFile, FILES),
  rpm: RpmHeader.exactOptional(),
});
export type PackagePlan = z.infer<typeof PackagePlan>;

/** Raised with every change of the bytes that Kiln itself writes of the same plan. */
const COMPOSER = 1;

/** The digest of all that a package's bytes depend on: the plan, and the tools and the script that pack, or Kiln itself. */
export const packageFingerprint = (
  plan: PackagePlan,
  toolchain: Digest,
  script: Digest,
): Digest => {
  const tools = isComposed(plan.format) ? { composer: COMPOSER } : { script, toolchain };
  return digestOf(canonicalJson({ plan: plan as unknown as Canonical, ...tools }));
};
