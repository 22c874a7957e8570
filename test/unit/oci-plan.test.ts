import { describe, expect, it } from '@jest/globals';
import { digestOf } from '../../services/core/digest.ts';
import { loadingOf, readInTree, type Loading } from '../../services/core/packages/in-tree.ts';
import { planPackage } from '../../services/core/packages/plan-package.ts';
import { PackagePlan } from '../../services/core/packages/plan.ts';
import type { ModulesSubject } from '../../services/core/packages/subject.ts';
import { refusal } from './samples.ts';

/** Images for containers, in the layout that KMM loads from. */

const RELEASE = '6.12.117+deb13-amd64';
const HOME = `/opt/lib/modules/${RELEASE}`;
const MEDIA = 'kernel/drivers/media';
const DEP = `kernel/drivers/net/dummy.ko:
${MEDIA}/mc/mc.ko.xz:
${MEDIA}/v4l2-core/videodev.ko.xz: ${MEDIA}/mc/mc.ko.xz
kernel/lib/crc-itu-t.ko.xz:
updates/dkms/other.ko:
../../etc/x.ko:
`;
const module = (name: string, depends: string) =>
  ({
    name,
    modinfo: [
      ['license', 'GPL'],
      ['depends', depends],
    ],
  }) as const;
const modules = [module('web-cam', 'cam_core,videodev'), module('cam-core', 'mc,crc_itu_t')];
const subjectOf = (loading: Loading, change: Partial<ModulesSubject> = {}): ModulesSubject => ({
  kind: 'modules',
  build: '0123456789abcdef01234567',
  source: { name: 'Web_Cam', version: '1.0' },
  kernel: { release: RELEASE, arch: 'aarch64', version: '6.12.117-1' },
  modules: modules.map(({ name }) => ({ name, signed: digestOf(name), size: 5, license: 'GPL' })),
  files: [
    { place: '/lib/firmware/cam/boot.bin', digest: digestOf('firmware'), size: 3 },
    { place: '/lib/modprobe.d/cam.conf', digest: digestOf('conf'), size: 3 },
  ],
  needs: [],
  attestation: { digest: digestOf('attestation'), size: 11 },
  loading,
  revision: 1,
  ...change,
});
const loading = loadingOf(modules, readInTree(DEP), RELEASE);
const plan = planPackage('oci', subjectOf(loading));
const contentAt = (place: string) => plan.files.find((file) => file.place === place)?.content;

describe('an image for containers', () => {
  it('is called after source and kernel, its tag as KMM writes the kernel’s release, and travels', () => {
    expect(plan).toMatchObject({
      format: 'oci',
      name: `web-cam-modules-${RELEASE}`,
      arch: 'arm64',
      file: `web-cam-modules-${RELEASE}.oci.tar`,
      control: { tag: '6.12.117_deb13-amd64' },
    });
    expect(PackagePlan.parse(plan)).toEqual(plan);
  });

  it('has modules and their index where KMM looks, firmware where it is told to, and the node’s own modules behind a link', () => {
    expect(plan.files.map(({ place }) => place)).toEqual([
      `${HOME}/updates/Web_Cam/web-cam.ko`,
      `${HOME}/updates/Web_Cam/cam-core.ko`,
      `${HOME}/host`,
      `${HOME}/modules.dep`,
      `${HOME}/modules.dep.bin`,
      `${HOME}/modules.softdep`,
      ...['alias', 'symbols', 'builtin'].map((each) => `${HOME}/modules.${each}.bin`),
      '/firmware/cam/boot.bin',
      '/lib/modprobe.d/cam.conf',
      `/usr/share/doc/web-cam-modules-${RELEASE}/provenance.json`,
    ]);
    expect(contentAt(`${HOME}/host`)).toEqual({ link: `/lib/modules/${RELEASE}` });
  });

  it('names what each module needs, over all layers, the first to be loaded last', () => {
    const [mc, videodev] = [`host/${MEDIA}/mc/mc.ko.xz`, `host/${MEDIA}/v4l2-core/videodev.ko.xz`];
    const [cam, core] = ['updates/Web_Cam/web-cam.ko', 'updates/Web_Cam/cam-core.ko'];
    const crc = 'host/kernel/lib/crc-itu-t.ko.xz';
    const lines = [
      `${cam}: ${core} ${crc} ${videodev} ${mc}`,
      `${core}: ${mc} ${crc}`,
      `${mc}:`,
      `${videodev}: ${mc}`,
      `${crc}:`,
    ];
    const text = `${lines.join('\n')}\n`;
    expect(contentAt(`${HOME}/modules.dep`)).toEqual({ text });
    const names = ['web_cam', 'cam_core', 'mc', 'videodev', 'crc_itu_t'];
    expect(contentAt(`${HOME}/modules.dep.bin`)).toEqual({
      index: `${names.map((name, at) => `${name} ${lines[at]}`).join('\n')}\n`,
    });
  });

  it('has its own module where the kernel has one of that name, also for those of the kernel’s that need it', () => {
    const own = [module('cam', 'uvc,videodev'), module('videodev', 'crc_itu_t')];
    const uvc = `${MEDIA}/uvc.ko: ${MEDIA}/v4l2-core/videodev.ko.xz ${MEDIA}/mc/mc.ko.xz\n`;
    const replaced = loadingOf(own, readInTree(DEP + uvc), RELEASE);
    const made = planPackage(
      'oci',
      subjectOf(replaced, {
        modules: own.map(({ name }) => ({ name, signed: digestOf(name), size: 5, license: 'GPL' })),
      }),
    );
    const crc = 'host/kernel/lib/crc-itu-t.ko.xz';
    const [mc, ours] = [`host/${MEDIA}/mc/mc.ko.xz`, 'updates/Web_Cam/videodev.ko'];
    expect(made.files.find(({ place }) => place === `${HOME}/modules.dep`)?.content).toEqual({
      text: `updates/Web_Cam/cam.ko: host/${MEDIA}/uvc.ko ${mc} ${ours} ${crc}
${ours}: ${crc}
${mc}:
host/${MEDIA}/uvc.ko: ${ours} ${crc} ${mc}
${crc}:
`,
    });
  });

  it('names what modules want beside them, with what of that the kernel has itself', () => {
    const wishing = {
      name: 'web-cam',
      modinfo: [
        ['softdep', 'pre: crc_itu_t absent post: dummy'],
        ['depends', ''],
      ],
    } as const;
    const soft = loadingOf([wishing], readInTree(DEP), RELEASE);
    const { files } = planPackage('oci', subjectOf(soft));
    expect(files.find(({ place }) => place === `${HOME}/modules.softdep`)?.content).toEqual({
      text: 'softdep web_cam pre: crc_itu_t absent post: dummy\n',
    });
    expect(soft.inTree.map(({ path }) => path)).toEqual([
      'kernel/drivers/net/dummy.ko',
      'kernel/lib/crc-itu-t.ko.xz',
    ]);
  });

  it('ends also where modules say that they need each other in a ring', () => {
    const ring = loadingOf([module('a', 'b'), module('b', 'a')], [], RELEASE);
    const both = ['a', 'b'].map((name) => ({
      name,
      signed: digestOf(name),
      size: 5,
      license: 'GPL',
    }));
    const { files } = planPackage('oci', subjectOf(ring, { modules: both }));
    expect(files.find(({ place }) => place === `${HOME}/modules.dep`)?.content).toEqual({
      text: 'updates/Web_Cam/a.ko: updates/Web_Cam/b.ko\nupdates/Web_Cam/b.ko: updates/Web_Cam/a.ko\n',
    });
  });

  it('has all that is a source’s: there is none of settings alone', () => {
    const settings = { ...subjectOf(loading), kind: 'settings', licenses: [] } as const;
    expect(() => planPackage('oci', settings)).toThrow(refusal('conflict', /has all that is/));
  });
});

describe('the kernel’s own modules', () => {
  it('are read of modules.dep, and nothing else of it', () => {
    expect(readInTree(DEP).map(({ path }) => path)).toEqual([
      'kernel/drivers/net/dummy.ko',
      `${MEDIA}/mc/mc.ko.xz`,
      `${MEDIA}/v4l2-core/videodev.ko.xz`,
      'kernel/lib/crc-itu-t.ko.xz',
    ]);
    expect(readInTree('kernel/../../etc/x.ko:\nkernel/a.ko: /etc/passwd\n')).toEqual([]);
  });

  it('are those that others need, each once, by path', () => {
    expect(loading.inTree.map(({ path }) => path)).toEqual([
      `${MEDIA}/mc/mc.ko.xz`,
      `${MEDIA}/v4l2-core/videodev.ko.xz`,
      'kernel/lib/crc-itu-t.ko.xz',
    ]);
  });

  it.each([
    ['is not known', module('a', 'absent'), DEP],
    ['needs one that is not known', module('a', 'videodev'), DEP.replace(/^.*mc\.ko\.xz:\n/m, '')],
  ])('are all known: refused where one %s', (_why, needing, text) => {
    expect(() => loadingOf([needing], readInTree(text), RELEASE)).toThrow(
      refusal('conflict', /is not one of kernel 6\.12\.117\+deb13-amd64’s own.*--root DIR/),
    );
  });

  it('are bounded, and so is what modules say', () => {
    const many = module('a', Array.from({ length: 200 }, (_, at) => `m${at}`).join(','));
    const text = Array.from({ length: 200 }, (_, at) => `kernel/m${at}.ko:\n`).join('');
    expect(() => loadingOf([many], readInTree(text), RELEASE)).toThrow(
      refusal('conflict', /more than an image can say/),
    );
  });
});
