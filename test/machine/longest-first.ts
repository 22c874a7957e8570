import { createRequire } from 'node:module';
import { relative } from 'node:path';
import { CHECKOUT } from './places.ts';

type Jest = typeof import('@jest/test-sequencer');
type Test = Parameters<InstanceType<Jest['default']>['sort']>[0][number];

const { default: Sequencer } = createRequire(import.meta.url)('@jest/test-sequencer') as Jest;

/** Seconds that files took in a full run on two cores, those that took over half a minute. */
const SECONDS: Readonly<Record<string, number>> = {
  'test/e2e/toolchain-packages.test.ts': 253,
  'test/e2e/package.test.ts': 246,
  'test/cases/header-layouts.test.ts': 211,
  'test/e2e/hostile.test.ts': 205,
  'test/e2e/compose.test.ts': 191,
  'test/e2e/resilience.test.ts': 187,
  'test/e2e/toolchains.test.ts': 184,
  'test/e2e/transaction.test.ts': 169,
  'test/e2e/kernels.test.ts': 161,
  'test/conformance/conformance.test.ts': 138,
  'test/e2e/fleet.test.ts': 131,
  'test/integration/guard.test.ts': 112,
  'test/attacks/forged-messages.test.ts': 96,
  'test/e2e/initramfs.test.ts': 55,
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
