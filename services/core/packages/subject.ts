import { z } from 'zod';
import { ARCHES } from '../arch.ts';
import { digest } from '../digest.ts';
import { list, moduleName, MODULES, sourceName, sourceVersion } from '../schemas/domain.ts';
import { isKernelRelease } from '../kernel/kernel.ts';
import { HOST_FILES, isHostFilePlace } from '../source/host-files.ts';
import { Loading } from './in-tree.ts';
import { Kabi } from './kabi.ts';

/** What a package is made of, and all that its bytes depend on besides the tools. Whoever has it can say what must be in the package. */

const size = z
  .number()
  .int()
  .min(0)
  .max(2 ** 40);
const word = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._+~:-]{0,127}$/);
/** What a module says of its license. */
const license = z.string().max(200);
const source = z.strictObject({ name: sourceName, version: sourceVersion });
const arch = z.enum(ARCHES);
const release = z.string().refine(isKernelRelease, { error: 'expected a kernel release' });
/** Counts packages of one name and version whose bytes differ, from 1. */
const revision = z.number().int().min(1).max(1_000_000);

/** The modules of one build, with the firmware that its source brings, for one kernel. */
const Modules = z.strictObject({
  kind: z.literal('modules'),
  build: z.string().regex(/^[0-9a-f]{24}$/),
  source,
  kernel: z.strictObject({
    release,
    arch,
    /** The version of the distribution's package of the kernel; `null` where the kernel does not say. */
    version: word.nullable(),
  }),
  modules: list(
    z.strictObject({ name: moduleName, signed: digest, size, license }),
    MODULES,
  ).refine((modules) => modules.length > 0),
  /** The files for hosts that its source brings. */
  files: list(
    z.strictObject({ place: z.string().refine(isHostFilePlace), digest, size }),
    HOST_FILES,
  ),
  /** The names of sources that it is built against. */
  needs: list(sourceName, 256),
  attestation: z.strictObject({ digest, size }),
  /** What its modules need of a kernel, by their bytes, for packages that track the kABI; others do without. */
  kabi: Kabi.exactOptional(),
  /** What its modules need loaded before them, for images with an index of their own. */
  loading: Loading.exactOptional(),
  revision,
});

/** The settings that a source brings, which all kernels share. */
const Settings = z.strictObject({
  kind: z.literal('settings'),
  source,
  licenses: list(license, MODULES),
  files: Modules.shape.files,
  revision,
});

/** No files: a name that does not change with the kernel, and needs the modules for the newest one of a flavour. */
const Flavour = z.strictObject({
  kind: z.literal('flavour'),
  source,
  /** `null` where kernels have none, as Fedora's and Enterprise Linux's. */
  flavour: word.nullable(),
  kernel: Modules.shape.kernel,
  revision,
});

/** What all packages of modules need on a host: it has depmod and the initramfs made anew, once for all that come and go together. */
const Common = z.strictObject({ kind: z.literal('common') });

export const PackageSubject = z.discriminatedUnion('kind', [Modules, Settings, Flavour, Common]);
export type PackageSubject = z.infer<typeof PackageSubject>;
export type ModulesSubject = z.infer<typeof Modules>;
export type SettingsSubject = z.infer<typeof Settings>;
export type FlavourSubject = z.infer<typeof Flavour>;
