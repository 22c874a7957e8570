import { describe, expect, it } from '@jest/globals';
import { digestOf, hexOf } from '../../services/core/digest.ts';
import { planPackage } from '../../services/core/packages/plan-package.ts';
import { PackagePlan } from '../../services/core/packages/plan.ts';
import type { ModulesSubject } from '../../services/core/packages/subject.ts';
import { refusal } from './samples.ts';

/** Images that systemd-sysext merges over /usr. */

const RELEASE = '6.12.117+deb13-amd64';
const NAME = `web-cam-modules-${RELEASE}`;
/** A unit cannot have the kernel's `+`. */
const UNIT = `web-cam-modules-6.12.117-deb13-amd64-${hexOf(digestOf(NAME)).slice(0, 8)}.service`;
const [ko, firmware, conf] = ['ko', 'firmware', 'conf'].map((text) => digestOf(text));
const subject: ModulesSubject = {
  kind: 'modules',
  build: '0123456789abcdef01234567',
  source: { name: 'Web_Cam', version: '1.0-2' },
  kernel: { release: RELEASE, arch: 'x86_64', version: '6.12.117-1' },
  modules: [{ name: 'web-cam', signed: ko ?? digestOf(''), size: 5, license: 'GPL' }],
  files: [
    { place: '/lib/firmware/cam/boot.bin', digest: firmware ?? digestOf(''), size: 3 },
    { place: '/lib/modprobe.d/cam.conf', digest: conf ?? digestOf(''), size: 3 },
  ],
  needs: [],
  attestation: { digest: digestOf('attestation'), size: 11 },
  revision: 1,
};
const plan = planPackage('sysext', subject);
const text = (place: string): string => {
  const content = plan.files.find((file) => file.place === place)?.content;
  return content !== undefined && 'text' in content ? content.text : '';
};

describe('an image of modules', () => {
  it('is called after source and kernel, and travels', () => {
    expect(plan).toMatchObject({
      format: 'sysext',
      name: NAME,
      version: '1.0-2+6.12.117.1+1',
      arch: 'x86-64',
      file: `${NAME}.raw`,
    });
    expect(PackagePlan.parse(plan)).toEqual(plan);
  });

  it('has all of its files below /usr: modules, firmware for its kernel, settings', () => {
    expect(plan.files.map(({ place }) => place)).toEqual([
      `/usr/lib/modules/${RELEASE}/updates/Web_Cam/web-cam.ko`,
      `/usr/lib/firmware/updates/${RELEASE}/cam/boot.bin`,
      '/usr/lib/modprobe.d/cam.conf',
      `/usr/share/doc/${NAME}/provenance.json`,
      `/usr/lib/extension-release.d/extension-release.${NAME}`,
      `/usr/lib/kiln-modules/${NAME}/load`,
      `/usr/lib/systemd/system/${UNIT}`,
      `/usr/lib/systemd/system/multi-user.target.d/10-${NAME}.conf`,
    ]);
  });

  it('says that it is for any distribution on its architecture, and has the manager look at it', () => {
    expect(text(`/usr/lib/extension-release.d/extension-release.${NAME}`)).toBe(
      'ID=_any\nARCHITECTURE=x86-64\nEXTENSION_RELOAD_MANAGER=1\n',
    );
  });

  it('has its modules loaded by a unit that the host’s target upholds, of letters that units have', () => {
    // What is upheld and fails would be started again for ever.
    expect(text(`/usr/lib/systemd/system/${UNIT}`)).toContain(
      `\nExecStart=-/usr/lib/kiln-modules/${NAME}/load ${RELEASE} web-cam\n`,
    );
    expect(text(`/usr/lib/systemd/system/multi-user.target.d/10-${NAME}.conf`)).toBe(
      `[Unit]\nUpholds=${UNIT}\n`,
    );
  });

  it('is no larger than what can be made in memory', () => {
    const [module] = subject.modules;
    if (module === undefined) throw new Error('no module');
    const modules = [{ ...module, size: 256 * 1024 ** 2 }];
    expect(() => planPackage('sysext', { ...subject, modules })).toThrow(
      refusal('conflict', /would have 268435462 bytes, over the limit of 268435456; make a deb/),
    );
  });

  it('is made of modules alone', () => {
    expect(() => planPackage('sysext', { kind: 'common' })).toThrow(
      refusal('conflict', /has all that is theirs in it/),
    );
  });
});
