import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { freshDirectory } from './make-source.ts';
import { mustRun } from './run.ts';

/** RPM's names for how a package's files are compressed. */
export type Payload = 'w9.gzdio' | 'w6.xzdio' | 'w3.zstdio';

/**
 * Packs a kernel's tree as Enterprise Linux and Fedora pack headers, with a file of two names in it; the package, whose version and release
 * are in the kernel's where that is named in their way (`VERSION-RELEASE.x86_64`).
 */
export const kernelDevel = async (
  tree: string,
  release: string,
  payload: Payload = 'w3.zstdio',
): Promise<string> => {
  const top = await freshDirectory('rpmbuild');
  const home = `/usr/src/kernels/${release}`;
  const spec = join(top, 'kernel-devel.spec');
  await writeFile(
    spec,
    `Name: kernel-devel
Version: ${/^[0-9.]+/.exec(release)?.[0] ?? '1'}
Release: ${/-(.+)\.x86_64$/.exec(release)?.[1] ?? '1'}
Summary: headers
License: GPL
%global debug_package %{nil}
%global __os_install_post %{nil}
%global _build_id_links none
AutoReqProv: no
%description
.
%install
mkdir -p %{buildroot}/usr/src/kernels
cp -a ${tree} %{buildroot}${home}
ln %{buildroot}${home}/Module.symvers %{buildroot}${home}/Module.symvers.too
%files
/usr/src/kernels
`,
  );
  const defined = [`_topdir ${top}`, `_binary_payload ${payload}`];
  const options = defined.flatMap((definition) => ['--define', definition]);
  await mustRun('rpmbuild', ['-bb', '--quiet', ...options, spec]);
  return (await mustRun('find', [top, '-name', '*.rpm'])).trim();
};
