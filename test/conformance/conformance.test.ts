import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { connectDocker, type ContainerEngine } from '../../services/builder/docker.ts';
import { isDigest } from '../../services/core/digest.ts';
import { debianHeaders, newestRelease } from '../machine/debian.ts';
import { pinToolchain, startKiln, type KilnService } from '../machine/kiln-service.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { DKMS_TOOLCHAIN } from '../machine/places.ts';
import { IS_THOROUGH } from '../machine/thorough.ts';
import { subjectOf } from './matrix.ts';
import { buildWithDkms, type Fared } from './with-dkms.ts';
import { buildWithKiln } from './with-kiln.ts';

/** The part of `npm run conformance` that fits in here: one source of each kind there is, by Kiln and by Debian's own dkms. */
let kiln: KilnService;
let toolchain: string;
let image: string;
const kernels = new Map<string, { readonly release: string; readonly digest: string }>();
beforeAll(async () => {
  kiln = await startKiln(await freshDirectory('conformance'), { KILN_LOG_LEVEL: 'warn' });
  toolchain = await pinToolchain(kiln, DKMS_TOOLCHAIN);
  const engine: ContainerEngine = connectDocker('/var/run/docker.sock');
  image = (isDigest(toolchain) ? await engine.findImage(toolchain) : null) ?? '';
  for (const flavour of IS_THOROUGH ? ['amd64', 'rt-amd64'] : ['amd64']) {
    const release = await newestRelease(flavour);
    const { digest } = await kiln.json<{ digest: string }>(
      'kernel',
      'push',
      await debianHeaders(release),
    );
    kernels.set(flavour, { release, digest });
  }
});
afterAll(async () => {
  await kiln.stop();
});

const both = async (name: string, flavour: string): Promise<{ kiln: Fared; dkms: Fared }> => {
  const { release, digest } = kernels.get(flavour) ?? { release: '', digest: '' };
  const subject = await subjectOf(name);
  await kiln.json('source', 'push', subject.deb);
  return {
    kiln: await buildWithKiln(kiln, subject, digest, toolchain),
    dkms: await buildWithDkms(subject, release, image, 2),
  };
};

type Built = readonly [source: string, flavour: string, count: number, why: string];
const BUILT: readonly Built[] = [
  ['digimend-dkms', 'amd64', 4, 'several modules, and a conf that reads the kernel’s config'],
  ['iptables-netflow-dkms', 'amd64', 1, 'a configure script, other packages, and not stripped'],
];
const ALSO_BUILT: readonly Built[] = [
  ['bbswitch-dkms', 'amd64', 1, 'the least there can be'],
  ['gost-crypto-dkms', 'rt-amd64', 6, 'real time'],
];
type Unbuilt = readonly [source: string, flavour: string, outcome: string];
const UNBUILT: readonly Unbuilt[] = [['librem-ec-acpi-dkms', 'amd64', 'failed']];
const ALSO_UNBUILT: readonly Unbuilt[] = [['zfs-dkms', 'rt-amd64', 'excluded']];

describe('what DKMS makes of Debian’s sources, Kiln makes to the byte', () => {
  it.each(IS_THOROUGH ? [...BUILT, ...ALSO_BUILT] : BUILT)(
    '%s on %s: %d modules (%s)',
    async (name, flavour, count) => {
      const made = await both(name, flavour);
      expect(made.dkms.outcome).toBe('built');
      expect(Object.keys(made.dkms.modules)).toHaveLength(count);
      expect(made.kiln.modules).toEqual(made.dkms.modules);
    },
  );

  it.each(IS_THOROUGH ? [...UNBUILT, ...ALSO_UNBUILT] : UNBUILT)(
    '%s on %s: both say %s',
    async (name, flavour, outcome) => {
      const made = await both(name, flavour);
      expect([made.kiln.outcome, made.dkms.outcome]).toEqual([outcome, outcome]);
      expect(made.kiln.errors).toEqual(made.dkms.errors);
    },
  );
});
