import { createRequire } from 'node:module';
import { relative } from 'node:path';
import { CHECKOUT } from './places.ts';

type Jest = typeof import('@jest/test-sequencer');
type Test = Parameters<InstanceType<Jest['default']>['sort']>[0][number];

const { default: Sequencer } = createRequire(import.meta.url)('@jest/test-sequencer') as Jest;

/** Seconds that files took in a full run on two cores, those that took over 50. */
const SECONDS: Readonly<Record<string, number>> = {
  'test/e2e/compose.test.ts': 369,
  'test/conformance/conformance.test.ts': 312,
  'test/e2e/apt-repository.test.ts': 230,
  'test/e2e/resilience.test.ts': 203,
  'test/attacks/links-out-of-a-root.test.ts': 202,
  'test/e2e/toolchains.test.ts': 193,
  'test/e2e/toolchain-packages.test.ts': 190,
  'test/e2e/package.test.ts': 187,
  'test/e2e/fleet.test.ts': 180,
  'test/e2e/kernels.test.ts': 165,
  'test/cases/header-layouts.test.ts': 154,
  'test/e2e/rpm-archive.test.ts': 153,
  'test/e2e/suites.test.ts': 149,
  'test/e2e/hostile.test.ts': 148,
  'test/dkms-suite/dkms-suite.test.ts': 147,
  'test/e2e/build.test.ts': 145,
  'test/e2e/ubuntu-archive.test.ts': 127,
  'test/integration/initramfs.test.ts': 124,
  'test/attacks/forged-messages.test.ts': 118,
  'test/e2e/kernel-sync.test.ts': 119,
  'test/e2e/bad-input.test.ts': 101,
  'test/cases/initramfs-places.test.ts': 90,
  'test/e2e/deb-packages.test.ts': 88,
  'test/integration/s3-removal.test.ts': 89,
  'test/e2e/own-kernel.test.ts': 87,
  'test/e2e/host-files.test.ts': 90,
  'test/e2e/kernel-demand.test.ts': 85,
  'test/e2e/transaction.test.ts': 83,
  'test/e2e/archive-sources.test.ts': 82,
  'test/e2e/network.test.ts': 77,
  'test/e2e/dkms-packages.test.ts': 77,
  'test/e2e/several-apis.test.ts': 75,
  'test/e2e/dkms.test.ts': 71,
  'test/e2e/backup.test.ts': 66,
  'test/e2e/install.test.ts': 77,
  'test/attacks/rpm-metadata.test.ts': 72,
  'test/e2e/answers.test.ts': 68,
  'test/integration/module-version.test.ts': 62,
  'test/cases/change-of-key.test.ts': 62,
  'test/attacks/rpm-mirrors.test.ts': 62,
  'test/integration/guard.test.ts': 61,
  'test/e2e/secure-boot.test.ts': 59,
  'test/e2e/import-dkms.test.ts': 58,
  'test/integration/weak-update-proof.test.ts': 57,
  'test/cases/guard-release.test.ts': 53,
  'test/attacks/rpm-packages.test.ts': 53,
  'test/attacks/withdrawn.test.ts': 52,
  'test/e2e/s3-store.test.ts': 53,
};

const secondsOf = ({ path }: Test): number => SECONDS[relative(CHECKOUT, path)] ?? 0;

/** Begins with the files that take longest, as a machine that has run no tests yet cannot know: so no worker ends long before another. */
// oxlint-disable-next-line import/no-default-export -- that is how jest takes it
export default class LongestFirst extends Sequencer {
  override async sort(tests: Test[]): Promise<Test[]> {
    const asUsual = await super.sort(tests);
    return asUsual.toSorted((one, other) => secondsOf(other) - secondsOf(one));
  }
}
