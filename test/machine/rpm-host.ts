import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { moduleBytes } from '../unit/samples.ts';
import { copyRoot, mustRunIn, runInside } from './debian-root.ts';
import { freshDirectory } from './make-source.ts';
import { mustRun, type Ran } from './run.ts';

/** A root whose package manager is rpm's: the programs are Debian's, the packages are not. */
export interface RpmHost {
  readonly root: string;
  run(program: string, ...args: string[]): Promise<Ran>;
  mustRun(program: string, ...args: string[]): Promise<string>;
}

/** A new host of dnf and zypper, with packages of its distribution that bring nothing but their names. */
export const rpmHost = async (): Promise<RpmHost> => {
  const root = await copyRoot('rpm-host', ['dnf', 'zypper', 'rpm', 'kmod', 'procps']);
  const host: RpmHost = {
    root,
    run: (program, ...args) => runInside(root, program, args),
    mustRun: (program, ...args) => mustRunIn(root, program, ...args),
  };
  const base = await namedPackage('base', '1', '1', [
    'coreutils',
    'findutils',
    'gawk',
    'gzip',
    'kmod',
    'sed',
    'xz',
    '/bin/sh',
    'system-release = 9',
  ]);
  // Debian's rpm has its database in a home directory.
  await mkdir(join(root, 'etc/rpm'), { recursive: true });
  await writeFile(join(root, 'etc/rpm/macros'), '%_dbpath /var/lib/rpm\n');
  await copyFile(base, join(root, 'root/base.rpm'));
  await host.mustRun('rpm', '-i', '/root/base.rpm');
  return host;
};

/** A package of some names, with a script's lines and files that `install` makes below `%{buildroot}`; its file. */
export const namedPackage = async (
  name: string,
  version: string,
  release: string,
  provides: readonly string[],
  { install = '', files = '', post = '' } = {},
): Promise<string> => {
  const top = await freshDirectory('named-rpm');
  const spec = join(top, 'named.spec');
  await writeFile(
    spec,
    `Name: ${name}
Version: ${version}
Release: ${release}
Summary: made in a test
License: GPL
AutoReqProv: no
${provides.map((each) => `Provides: ${each}\n`).join('')}
%description
.
%install
mkdir -p %{buildroot}
${install}
%files
${files}
${post === '' ? '' : `%post\n${post}\n`}`,
  );
  await mustRun('rpmbuild', ['-bb', '--quiet', '--define', `_topdir ${top}`, spec]);
  return (await mustRun('find', [top, '-name', '*.rpm'])).trim();
};

/** The package of a kernel as Enterprise Linux names it, with one module of its own. */
export const kernelCore = (release: string): Promise<string> => {
  const [, version = '', of = ''] = /^([0-9.]+)-(.+)\.x86_64$/.exec(release) ?? [];
  const home = `/lib/modules/${release}`;
  return namedPackage(
    'kernel-core',
    version,
    of,
    [`kernel-uname-r = ${release}`, 'installonlypkg(kernel)'],
    {
      install: `mkdir -p %{buildroot}${home}/kernel\ntouch %{buildroot}${home}/modules.order %{buildroot}${home}/modules.builtin`,
      files: home,
      post: `depmod ${release}`,
    },
  );
};

/** What a kernel has for modules: its vermagic but for the release, and CRCs (eight hexadecimal digits) by symbol. */
export interface KernelKabi {
  readonly vermagic: string;
  readonly symbols: Readonly<Record<string, string>>;
}

/**
 * The package of a kernel as SUSE makes it, with one module of its own: it has a list of the symbols that it exports, and provides each
 * with its CRC (without zeros before it, as `ksym-provides` prints them).
 */
export const kernelDefault = (
  release: string,
  { vermagic, symbols }: KernelKabi,
): Promise<string> => {
  const [, version = '', of = ''] = /^([0-9.]+)-(.+)-default$/.exec(release) ?? [];
  const home = `/lib/modules/${release}`;
  const own = moduleBytes(['name=own', `vermagic=${release} ${vermagic} `, 'license=GPL']);
  const lines = Object.entries(symbols).map(
    ([symbol, crc]) => `0x${crc}\t${symbol}\tvmlinux\tEXPORT_SYMBOL\t\n`,
  );
  return namedPackage(
    'kernel-default',
    version,
    of,
    Object.entries(symbols).map(
      ([symbol, crc]) => `ksym(default:${symbol}) = ${Number.parseInt(crc, 16).toString(16)}`,
    ),
    {
      install: `mkdir -p %{buildroot}${home}/kernel
echo ${own.toString('base64')} | base64 -d >%{buildroot}${home}/kernel/own.ko
touch %{buildroot}${home}/modules.order %{buildroot}${home}/modules.builtin
gzip -n >%{buildroot}${home}/symvers.gz <<'END'
${lines.join('')}END`,
      files: home,
      post: `depmod ${release}`,
    },
  );
};
