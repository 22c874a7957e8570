import { KilnError } from '../../services/core/errors.ts';
import { namesOnHost, readHostText } from './host-files.ts';
import type { Host } from './host.ts';

/** DKMS's directories on a host, as `/etc/dkms/framework.conf` and its drop-ins set them. */
export interface DkmsLayout {
  /** `dkms_tree`: the directory of sources and of what was built. */
  readonly tree: string;
  /** `install_tree`: where kernels' directories are. */
  readonly installTree: string;
  /** Whether it loads what it installs (`modprobe_on_install`). */
  readonly loads: boolean;
}

export const USUAL_LAYOUT: DkmsLayout = {
  tree: '/var/lib/dkms',
  installTree: '/lib/modules',
  loads: false,
};

const LIMIT = 1024 ** 2;
const FRAMEWORK = 'etc/dkms/framework.conf';
/** `NAME=VALUE` alone on its line, the value without anything that a shell would change. */
const PLAIN = /^([A-Za-z_]\w*)=(?:"([^"$`\\]*)"|'([^']*)'|([^\s"'$`\\;&|()<>]*))\s*(?:#.*)?$/;
const MATTERING = ['dkms_tree', 'install_tree', 'modprobe_on_install'];

/**
 * Reads DKMS's directories. Its settings files are shell and are not run: plain assignments are read, in the order in which dkms
 * reads them. Throws `install-failed` where a directory is set in any other way.
 */
export const readDkmsLayout = async (host: Host): Promise<DkmsLayout> => {
  const names = await namesOnHost(host, `${FRAMEWORK}.d`);
  const dropIns = names.filter((name) => name.endsWith('.conf') && !name.startsWith('.'));
  const values = new Map<string, string>();
  for (const path of [FRAMEWORK, ...dropIns.map((name) => `${FRAMEWORK}.d/${name}`)])
    for (const [name, value] of assignments(path, (await readHostText(host, path, LIMIT)) ?? ''))
      values.set(name, value);
  return {
    tree: directory(values, 'dkms_tree', USUAL_LAYOUT.tree),
    installTree: directory(values, 'install_tree', USUAL_LAYOUT.installTree),
    loads: (values.get('modprobe_on_install') ?? '') !== '',
  };
};

/** The assignments in one file. Throws `install-failed` for shell that may set one of `MATTERING` in another way. */
const assignments = (path: string, text: string): readonly (readonly [string, string])[] => {
  const lines = text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
  const isNamed = lines.some((line) => MATTERING.some((name) => line.includes(name)));
  return lines.flatMap((line) => {
    const [, name = '', double, single, bare = ''] = PLAIN.exec(line) ?? [];
    if (name !== '') return [[name, double ?? single ?? bare] as const];
    const isOther =
      /^(export\s+)?[A-Za-z_]\w*\+?=/.test(line) && !MATTERING.some((each) => line.includes(each));
    const reads = /^(\.|source)\s/.test(line);
    if (isOther || (!isNamed && !reads)) return [];
    throw new KilnError(
      'install-failed',
      `/${path} says where DKMS keeps its modules in shell, which Kiln does not run (${JSON.stringify(line.slice(0, 80))}); give the directory with --dkms-tree`,
    );
  });
};

const directory = (
  values: ReadonlyMap<string, string>,
  name: string,
  otherwise: string,
): string => {
  const value = values.get(name) ?? '';
  if (value === '') return otherwise;
  if (value.startsWith('/') && !value.split('/').includes('..')) return value;
  throw new KilnError(
    'install-failed',
    `DKMS’s framework.conf sets ${name} to ${JSON.stringify(value)}, which is no absolute path; mend it`,
  );
};
