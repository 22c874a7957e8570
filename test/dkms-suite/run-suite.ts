import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeDkmsHost } from '../machine/dkms-host.ts';
import { mustRun } from '../machine/run.ts';
import { adaptSuite, readOutcome, type Outcome } from './adapt.ts';
import { suiteSource } from './suite-source.ts';

/**
 * Runs dkms's own tests, of a suite of Debian's, against Kiln's dkms on a host of its own; only one group of them where it is named.
 * `kiln`: the service, whose builds must use one processor, as the tests ask for (`make -j1`).
 */
export const runSuite = async (
  kiln: { readonly url: string; readonly release: string },
  token: string,
  suite: string,
  group = '',
): Promise<Outcome> => {
  const source = await suiteSource(suite);
  const host = await makeDkmsHost(kiln, token);
  const home = join(host.root, 'root/dkms');
  await cp(source, home, { recursive: true });
  // dkms runs what its tests bring, so that nobody else than root may have written it.
  await mustRun('chmod', ['-R', 'go-w', home]);
  const text = await readFile(join(home, 'run_test.sh'), 'utf8');
  await writeFile(join(home, 'run_kiln.sh'), adaptSuite(text, kiln.url));
  const { stdout, stderr } = await host.run(
    'env',
    `KERNEL_VER=${host.release}`,
    'bash',
    '-c',
    `cd /root/dkms && bash run_kiln.sh ${group} 2>&1`,
  );
  const outcome = readOutcome(stdout);
  if (outcome.passed === 0) throw new Error(`dkms’s tests did not run:\n${stdout}${stderr}`);
  return outcome;
};
