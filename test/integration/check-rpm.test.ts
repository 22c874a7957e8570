import { chmod, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import { digestOf } from '../../services/core/digest.ts';
import { planPackage } from '../../services/core/packages/plan-package.ts';
import { PackagePlan } from '../../services/core/packages/plan.ts';
import type { PackageSubject } from '../../services/core/packages/subject.ts';
import { checkRpm } from '../../services/storage/check-rpm.ts';
import { packRpm } from '../machine/pack-plan.ts';
import {
  headerOf,
  rebuilt,
  text,
  type RpmHeaderBytes,
  type RpmValue,
} from '../machine/rpm-bytes.ts';
import { mustRun } from '../machine/run.ts';

/** An RPM package is what its plan says and nothing else: real packages, made by rpmbuild, each wrong in one way. */

const release = '5.14.0-427.el9.x86_64';
const source = { name: 'camera', version: '1.0-2' };
const kernel = { release, arch: 'x86_64', version: null } as const;
const subjects: readonly PackageSubject[] = [
  {
    kind: 'modules',
    build: '0123456789abcdef01234567',
    source,
    kernel,
    modules: ['camera', 'camera-core', 'Camera_x'].map((name) => ({
      name,
      signed: digestOf('module'),
      size: 6,
      license: 'Dual BSD/GPL',
    })),
    files: [{ place: '/lib/firmware/camera/a.bin', digest: digestOf('firmware'), size: 8 }],
    needs: ['other'],
    attestation: { digest: digestOf('attestation'), size: 11 },
    revision: 1,
  },
  { kind: 'flavour', source, flavour: null, kernel, revision: 1 },
  { kind: 'common' },
  {
    kind: 'settings',
    source,
    licenses: ['GPL'],
    files: [{ place: '/lib/modprobe.d/a.conf', digest: digestOf('setting'), size: 7 }],
    revision: 1,
  },
];
const BYTES = ['module', 'firmware', 'attestation', 'setting'];
const read = async (digest: string): Promise<string> =>
  BYTES.find((bytes) => digestOf(bytes) === digest) ?? '';
const plans = subjects.map((subject) => planPackage('rpm', subject));
const [modules, , common] = plans;
const KO = `files/lib/modules/${release}/updates/camera/camera.ko`;

const check = (file: string, plan: PackagePlan, most = 1024 ** 2): Promise<void> =>
  readFile(file).then((bytes) => checkRpm(bytes, plan, most));
const inSpec =
  (from: string | RegExp, to: string) =>
  async (home: string): Promise<void> => {
    const spec = await readFile(join(home, 'spec'), 'utf8');
    const changed = spec.replace(from, to);
    expect(changed).not.toBe(spec);
    await writeFile(join(home, 'spec'), changed);
  };

describe('an RPM package', () => {
  it.each(plans.map((plan) => [plan.file, plan] as const))(
    'passes where it is what was planned: %s',
    async (_, plan) => {
      expect(PackagePlan.parse(plan)).toEqual(plan);
      await expect(check(await packRpm(plan, read), plan)).resolves.toBeUndefined();
    },
  );

  it.each<[string, (home: string) => Promise<unknown>, RegExp]>([
    [
      'a script',
      inSpec('%files', '%post\n/bin/true\n\n%files'),
      /has a tag 1024, which is not planned/,
    ],
    [
      'a script before the transaction',
      inSpec('%files', '%pretrans\n/bin/true\n\n%files'),
      /has a tag 1151, which is not planned/,
    ],
    [
      'a trigger',
      inSpec('%files', '%triggerin -- bash\n/bin/true\n\n%files'),
      /has a tag 10\d\d, which is not planned/,
    ],
    [
      'a file trigger',
      inSpec('%files', '%filetriggerin -- /usr\n/bin/true\n\n%files'),
      /has a tag 50\d\d, which is not planned/,
    ],
    [
      'a program of a transaction',
      inSpec('%files', '%transfiletriggerin -- /usr\n/bin/true\n\n%files'),
      /than planned \(transfiletriggerscripts\)/,
    ],
    [
      'what obsoletes another package',
      inSpec('AutoReqProv', 'Obsoletes: bash\nAutoReqProv'),
      /has a tag 1\d\d\d, which is not planned/,
    ],
    [
      'another changelog',
      inSpec('- Made by Kiln.', '- Made by nobody.'),
      /than planned \(changelogtext\)/,
    ],
    [
      'what it does not provide',
      inSpec('AutoReqProv', 'Provides: kernel = 9\nAutoReqProv'),
      /provides something else than planned/,
    ],
    [
      'what it does not require',
      inSpec('AutoReqProv', 'Requires: evil\nAutoReqProv'),
      /requires something else than planned/,
    ],
    ['another license', inSpec(/^License: .*$/m, 'License: MIT'), /than planned \(license\)/],
    [
      'a file more',
      async (home) => {
        await writeFile(join(home, 'files/usr/evil'), '');
        await inSpec('%changelog', '"/usr/evil"\n%changelog')(home);
      },
      /unpacks ".\/usr\/evil.* where/,
    ],
    [
      'a file less',
      async (home) => {
        await rm(join(home, KO));
        await inSpec(/^"\/lib\/modules.*\n/m, '')(home);
      },
      / where \/lib\/modules.*camera\.ko is to be/,
    ],
    [
      'another module',
      (home) => writeFile(join(home, KO), 'other'),
      /has other bytes in .*camera\.ko than planned/,
    ],
    [
      'a link for a module',
      async (home) => {
        await rm(join(home, KO));
        await symlink('/etc/passwd', join(home, KO));
      },
      / where .*camera\.ko is to be/,
    ],
    [
      'a program that runs as its owner',
      (home) => chmod(join(home, KO), 0o4755),
      / where .*camera\.ko is to be/,
    ],
    [
      'a file of somebody else',
      inSpec(/^("\/lib\/modules.*")$/m, '%attr(0644,nobody,root) $1'),
      /than planned \(fileusername\)/,
    ],
    [
      'a file that is made elsewhere',
      inSpec(/^("\/lib\/modules.*")$/m, '%ghost $1'),
      / where .*camera\.ko is to be/,
    ],
    [
      'a program’s capabilities',
      inSpec(/^("\/lib\/modules.*")$/m, '%caps(cap_sys_admin=ep) $1'),
      /has a tag 5010, which is not planned/,
    ],
  ])('is refused with %s', async (_, change, words) => {
    if (modules === undefined) throw new Error('no plan');
    await expect(check(await packRpm(modules, read, change), modules)).rejects.toThrow(words);
  });

  it.each<[string, (header: RpmHeaderBytes) => void, RegExp]>([
    [
      'a requirement that need not be there',
      ({ set, at }) => set(at(1048), 8 | (1 << 19)),
      /requires something else than planned/,
    ],
    [
      'two files that are one',
      ({ set, at }) => set(at(1096) + 4, 1),
      /than planned \(fileinodes\)/,
    ],
    [
      'a file that is not verified',
      ({ set, at }) => set(at(1045), 0),
      /than planned \(fileverifyflags\)/,
    ],
    ['a time of its own', ({ set, at }) => set(at(1034), 1), /than planned \(filemtimes\)/],
    [
      'a file of another size',
      ({ set, at }) => set(at(1028) + 12, 7),
      /than planned \(filesizes\)/,
    ],
    ['a value of another type', ({ set, entry }) => set(entry(1117) + 4, 9), /malformed/],
    [
      'values that lie upon each other',
      ({ set, get, entry }) => set(entry(1014) + 8, get(entry(1004) + 8)),
      /malformed/,
    ],
    [
      'tags in another order',
      ({ set, entry }) => {
        const version = entry(1001);
        set(version, 1002);
        set(version + 16, 1001);
      },
      /malformed/,
    ],
    [
      'an entry outside its region',
      ({ set, get, at }) => set(at(63) + 8, get(at(63) + 8) + 16),
      /malformed/,
    ],
    ['the mark of a source package', ({ bytes }) => bytes.writeUInt8(1, 7), /malformed/],
    ['a payload of another kind', ({ bytes, payload }) => bytes.writeUInt8(0x1f, payload), /xz/],
  ])('is refused with %s in its header', async (_, change, words) => {
    if (modules === undefined) throw new Error('no plan');
    const file = await packRpm(modules, read);
    const header = headerOf(await readFile(file));
    change(header);
    await writeFile(file, header.bytes);
    await expect(check(file, modules)).rejects.toThrow(words);
  });

  it.each<[string, PackagePlan | undefined, (tags: Map<number, RpmValue>) => unknown, RegExp]>([
    [
      'triggers without their priorities, by which rpm falls',
      common,
      (tags) => tags.delete(5085),
      /\(transfiletriggerpriorities\)/,
    ],
    [
      'triggers without their versions',
      common,
      (tags) => tags.delete(5081),
      /\(transfiletriggerversion\)/,
    ],
    ['no digest of the payload', modules, (tags) => tags.delete(5092), /\(payloaddigest\)/],
    [
      'another digest of the payload',
      modules,
      (tags) => tags.set(5092, { type: 8, count: 1, bytes: text('0'.repeat(64)) }),
      /\(payloaddigest\)/,
    ],
    [
      'files for another kind of programs, which rpm leaves out',
      modules,
      (tags) => tags.get(1140)?.bytes.fill(4),
      /\(filecolors\)/,
    ],
    [
      'a module among the documents, which hosts may leave out',
      modules,
      (tags) => tags.get(1037)?.bytes.fill(2),
      /\(fileflags\)/,
    ],
    [
      'a requirement whose version is not compared',
      modules,
      (tags) => {
        const [flags, versions] = [tags.get(1048), tags.get(1050)];
        if (flags === undefined || versions === undefined) throw new Error('no requirements');
        const said = versions.bytes.toString('latin1').split('\0');
        const at = said.findIndex((each) => each === release);
        said[at] = `= ${release}`;
        versions.bytes = Buffer.from(said.join('\0'), 'latin1');
        flags.bytes.writeInt32BE(0, at * 4);
      },
      /requires something else than planned/,
    ],
    [
      'words of its own',
      modules,
      (tags) => tags.set(1005, { type: 9, count: 1, bytes: text('\u001B[2J') }),
      /\(description\)/,
    ],
  ])('is refused with %s', async (_, plan, change, said) => {
    if (plan === undefined) throw new Error('no plan');
    const file = await packRpm(plan, read);
    await writeFile(file, rebuilt(await readFile(file), change));
    await expect(check(file, plan)).rejects.toThrow(said);
  });

  it.each([
    ['more behind the end of its payload', Buffer.alloc(0), Buffer.from('more')],
    ['another file behind the end', Buffer.alloc(0), Buffer.from('070701')],
    ['what is not an archive', Buffer.from('evil'), Buffer.alloc(0)],
  ])('is refused with %s', async (_, before, after) => {
    if (common === undefined) throw new Error('no plan');
    const file = await packRpm(common, read);
    const bytes = await readFile(file);
    const { payload } = headerOf(bytes);
    const [packed, unpacked] = [`${file}.xz`, `${file}.cpio`];
    await writeFile(packed, bytes.subarray(payload));
    await mustRun('sh', ['-c', `xz -dc ${packed} >${unpacked}`]);
    const cpio = Buffer.concat([before, await readFile(unpacked), after]);
    await writeFile(unpacked, cpio);
    await mustRun('sh', ['-c', `xz -6 -c ${unpacked} >${packed}`]);
    await writeFile(file, Buffer.concat([bytes.subarray(0, payload), await readFile(packed)]));
    await expect(check(file, common)).rejects.toThrow(/unpacks more than planned|is malformed/);
  });

  it('is refused where the program that it has run is another', async () => {
    if (common === undefined) throw new Error('no plan');
    const change = inSpec(/^\/usr\/lib\/kiln-modules\/update \|\| :$/m, '/bin/evil');
    await expect(check(await packRpm(common, read, change), common)).rejects.toThrow(
      /than planned \(transfiletriggerscripts\)/,
    );
  });

  it('is refused where more comes out of it than may, and where it is cut short', async () => {
    if (common === undefined) throw new Error('no plan');
    const file = await packRpm(common, read);
    await expect(check(file, common, 100)).rejects.toThrow(/unpacks to over 100 bytes/);
    const bytes = await readFile(file);
    await writeFile(file, bytes.subarray(0, 2000));
    await expect(check(file, common)).rejects.toThrow(/malformed|cut short|broken/);
  });
});
