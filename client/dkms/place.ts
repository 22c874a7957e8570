import { normalize } from 'node:path';
import { readDistribution } from '../host/distribution.ts';
import type { Host } from '../host/host.ts';
import type { ConfModule } from './conf.ts';

/** Where distributions have dkms's modules below `/lib/modules/RELEASE`, whatever the source wants (source: `override_dest_module_location` of dkms 3.2.2). */
const HOMES: readonly (readonly [RegExp, string])[] = [
  [/^(debian|ubuntu|arch)/, 'updates/dkms'],
  [/^(fedora|rhel|ovm)/, 'extra'],
  [/^(sles|suse|opensuse)/, 'updates'],
];

/** The directory of a module below `/lib/modules/RELEASE`, without a slash at either end. */
export type Locate = (module: Pick<ConfModule, 'location'>) => string;

export const locateOn = async (host: Host): Promise<Locate> => {
  const words = await readDistribution(host);
  const home = words.flatMap((word) => HOMES.find(([pattern]) => pattern.test(word))?.[1] ?? [])[0];
  return ({ location }) => home ?? inside(location);
};

/** A location as a path that cannot leave the kernel's directory. */
const inside = (location: string): string => normalize(`/${location}`).replaceAll(/^\/+|\/+$/g, '');
