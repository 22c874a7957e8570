import { createHash } from 'node:crypto';
import { mkdir, readFile, realpath } from 'node:fs/promises';
import { machine, release as runningRelease } from 'node:os';
import { join } from 'node:path';
import { createGzip } from 'node:zlib';
import { dividedVersion, packageWord } from '../../services/core/packages/names.ts';
import { collect, packEntries } from '../ask/pack.ts';
import { walk } from '../ask/tree.ts';
import { forEverybody } from '../host/umask.ts';
import { writeWhole } from '../transaction/whole-file.ts';
import type { DkmsRun } from './run.ts';
import { confOf, homeOf, sourceLink, type Added } from './tree.ts';

/**
 * A Debian source package (source: dsc(5), deb-src-control(5)): what is built of it, with dpkg's own tools alone, is a package `NAME-dkms`
 * that lays the source down, but for empty directories, and registers it, as those of dh-dkms do.
 */

const MAINTAINER = 'Kiln <kiln@packages.invalid>';
const STANDARDS = '4.6.2';

/** `dkms mkdsc`: the Debian source package of a source, below its directory in the tree. */
export const makeSourcePackage = async (run: DkmsRun, added: Added): Promise<void> => {
  const { session } = run;
  const { context, places } = session;
  const name = `${packageWord(added.module)}-dkms`;
  const version = nativeVersion(added.version);
  const top = `${name}-${version}`;
  const directory = `${added.module}-${added.version}`;
  const { dependencies } = await run.confs.read({
    ...added,
    release: runningRelease(),
    arch: machine(),
    file: confOf(places, added),
  });
  const needs = dependencies
    .filter((each) => each !== added.module)
    .map((each) => `, ${packageWord(each)}-dkms`);
  const entries = await collect(walk(await realpath(sourceLink(places, added))));
  const packed = await packEntries(
    entries.map((entry) => ({ ...entry, path: `${top}/${directory}/${entry.path}` })),
    context.signal,
    Object.fromEntries(
      Object.entries(debianFiles(added, name, version, directory, needs)).map(([path, text]) => [
        `${top}/debian/${path}`,
        text,
      ]),
    ),
    createGzip({ level: 9 }),
  );
  try {
    const bytes = await readFile(packed.file);
    const home = join(homeOf(places, added), 'dsc');
    await forEverybody(() => mkdir(home, { recursive: true }));
    const tarball = `${name}_${version}.tar.gz`;
    const description = `${name}_${version}.dsc`;
    await writeWhole(join(home, tarball), bytes);
    await writeWhole(
      join(home, description),
      Buffer.from(descriptionOf(name, version, tarball, bytes)),
    );
    for (const file of [tarball, description]) session.say(`Wrote: ${join(home, file)}`);
    session.say('DKMS: mkdsc completed.');
  } finally {
    await packed.dispose();
  }
};

/** A source's version as a package has it whose source is Debian's own: without a hyphen. */
const nativeVersion = (version: string): string => {
  const { upstream, revision } = dividedVersion(version);
  return revision === '0' ? upstream : `${upstream}+${revision}`;
};

const debianFiles = (
  { module, version: own }: Added,
  name: string,
  version: string,
  directory: string,
  needs: readonly string[],
): Readonly<Record<string, string>> => ({
  'source/format': '3.0 (native)\n',
  control: `Source: ${name}
Section: kernel
Priority: optional
Maintainer: ${MAINTAINER}
Standards-Version: ${STANDARDS}
Rules-Requires-Root: no

Package: ${name}
Architecture: all
Depends: dkms${needs.join('')}
Description: kernel modules of ${module}, as source
 The source of ${module} ${own}, which dkms builds for each kernel.
`,
  changelog: `${name} (${version}) unstable; urgency=medium

  * Made by dkms mkdsc.

 -- ${MAINTAINER}  Sun, 09 Sep 2001 01:46:40 +0000
`,
  copyright: `What is below ${directory} says itself whose it is, and on which terms.
`,
  rules: `#!/usr/bin/make -f
root := debian/${name}
documents := $(root)/usr/share/doc/${name}

build build-arch build-indep binary-arch:
clean:
	rm -rf $(root) debian/files
binary binary-indep:
	rm -rf $(root)
	mkdir -p $(root)/DEBIAN $(root)/usr/src $(documents)
	cp -R ${directory} $(root)/usr/src/
	gzip -9n <debian/changelog >$(documents)/changelog.gz
	cp debian/copyright $(documents)/
	install -m 755 debian/postinst debian/prerm $(root)/DEBIAN/
	chmod -R u=rwX,go=rX $(root)
	dpkg-gencontrol -p${name} -P$(root)
	dpkg-deb --root-owner-group --build $(root) ..
.PHONY: build build-arch build-indep binary-arch clean binary binary-indep
`,
  postinst: `#!/bin/sh
set -e
[ "$1" != configure ] ||
  /usr/lib/dkms/common.postinst '${module}' '${own}' '/usr/share/${name}' '' "$2"
`,
  prerm: `#!/bin/sh
set -e
case $1 in
  remove | upgrade | deconfigure)
    [ -z "$(dkms status -m '${module}' -v '${own}')" ] || dkms remove -m '${module}' -v '${own}' --all
    ;;
esac
`,
});

/** The `.dsc`. */
const descriptionOf = (name: string, version: string, tarball: string, bytes: Buffer): string => {
  const sum = (algorithm: string): string => createHash(algorithm).update(bytes).digest('hex');
  return `Format: 3.0 (native)
Source: ${name}
Binary: ${name}
Architecture: all
Version: ${version}
Maintainer: ${MAINTAINER}
Standards-Version: ${STANDARDS}
Package-List:
 ${name} deb kernel optional arch=all
Checksums-Sha1:
 ${sum('sha1')} ${bytes.length} ${tarball}
Checksums-Sha256:
 ${sum('sha256')} ${bytes.length} ${tarball}
Files:
 ${sum('md5')} ${bytes.length} ${tarball}
`;
};
