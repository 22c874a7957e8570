import { createReadStream } from 'node:fs';
import { chmod, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import { digestOf } from '../../services/core/digest.ts';
import { planPackage } from '../../services/core/packages/plan-package.ts';
import { PackagePlan } from '../../services/core/packages/plan.ts';
import type { PackageSubject } from '../../services/core/packages/subject.ts';
import { checkRpm } from '../../services/storage/check-rpm.ts';
import { packRpm } from '../machine/pack-plan.ts';

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
    modules: [{ name: 'camera', signed: digestOf('module'), size: 6, license: 'Dual BSD/GPL' }],
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
  checkRpm(createReadStream(file), plan, most);
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
      /says something else of itself than planned \((requires|scripts)\)/,
    ],
    [
      'what obsoletes another package',
      inSpec('AutoReqProv', 'Obsoletes: bash\nAutoReqProv'),
      /has a tag 1\d\d\d, which is not planned/,
    ],
    [
      'what it does not provide',
      inSpec('AutoReqProv', 'Provides: kernel = 9\nAutoReqProv'),
      /than planned \(provides\)/,
    ],
    [
      'what it does not require',
      inSpec('AutoReqProv', 'Requires: evil\nAutoReqProv'),
      /than planned \(requires\)/,
    ],
    ['another license', inSpec(/^License: .*$/m, 'License: MIT'), /than planned \(license\)/],
    [
      'a file more',
      async (home) => {
        await writeFile(join(home, 'files/usr/evil'), '');
        await inSpec(/$/, '"/usr/evil"\n')(home);
      },
      /lists "\/usr\/evil", which is not planned/,
    ],
    [
      'a file less',
      async (home) => {
        await rm(join(home, KO));
        await inSpec(/^"\/lib\/modules.*\n/m, '')(home);
      },
      /lacks \/lib\/modules/,
    ],
    [
      'another module',
      (home) => writeFile(join(home, KO), 'other'),
      /lists other bytes for .*camera\.ko than planned/,
    ],
    [
      'a link for a module',
      async (home) => {
        await rm(join(home, KO));
        await symlink('/etc/passwd', join(home, KO));
      },
      /lists .*camera\.ko with other permissions/,
    ],
    [
      'a program that runs as its owner',
      (home) => chmod(join(home, KO), 0o4755),
      /lists .*camera\.ko with other permissions/,
    ],
    [
      'a file of somebody else',
      inSpec(/^("\/lib\/modules.*")$/m, '%attr(0644,nobody,root) $1'),
      /lists .*camera\.ko, which is not root’s/,
    ],
    [
      'a file that is made elsewhere',
      inSpec(/^("\/lib\/modules.*")$/m, '%ghost $1'),
      /lists .*camera\.ko as something else than a file/,
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

  it('is refused where the program that it has run is another', async () => {
    if (common === undefined) throw new Error('no plan');
    const change = inSpec(/^\/usr\/lib\/kiln-modules\/update \|\| :$/m, '/bin/evil');
    await expect(check(await packRpm(common, read, change), common)).rejects.toThrow(
      /than planned \(scripts\)/,
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
