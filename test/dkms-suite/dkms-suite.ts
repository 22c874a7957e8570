import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { newestRelease } from '../machine/debian.ts';
import { debianHeaders } from '../machine/debian.ts';
import { pinToolchain, startKiln } from '../machine/kiln-service.ts';
import { CHECKOUT, WORK } from '../machine/places.ts';
import type { IssuedToken } from '../../services/core/protocol/token.ts';
import type { Outcome } from './adapt.ts';
import { reasonOf } from './reasons.ts';
import { runSuite } from './run-suite.ts';

/**
 * Runs dkms's own tests against Kiln's dkms: all of what Debian 13's dkms brings.
 *
 * usage   npm run dkms-suite
 * output  a table in Markdown, also in test/dkms-suite/RESULTS.md
 * exit    0 every check passed, or does not for a reason that is known · 1 one does not for another
 */

const SUITE = 'trixie';

const tableOf = (release: string, { passed, misses }: Outcome): string => {
  const reasons = Map.groupBy(misses, (miss) => reasonOf(miss) ?? 'not known');
  return `# dkms’s own tests, run against Kiln’s dkms

\`npm run dkms-suite\`, dkms 3.2.2 of Debian 13, kernel ${release}: ${passed} of ${passed + misses.length} checks pass.

| checks that do not | why |
|---|---|
${[...reasons].map(([why, each]) => `| ${each.length} | ${why} |`).join('\n')}
`;
};

const release = await newestRelease();
const headers = await debianHeaders(release);
const kiln = await startKiln(join(WORK, 'dkms-suite'), { KILN_BUILD_CPUS: '1' });
try {
  await pinToolchain(kiln);
  await kiln.json('kernel', 'push', headers);
  const token = await kiln.json<IssuedToken>('token', 'create', 'dkms-suite', '--role', 'ci');
  const outcome = await runSuite({ url: kiln.url, release }, token.secret, SUITE);
  for (const miss of outcome.misses)
    process.stderr.write(`${miss.group}: ${miss.title}: ${miss.command}\n${miss.words}\n\n`);
  const table = tableOf(release, outcome);
  await writeFile(join(CHECKOUT, 'test/dkms-suite/RESULTS.md'), table);
  process.stdout.write(table);
  process.exitCode = outcome.misses.every((miss) => reasonOf(miss) !== null) ? 0 : 1;
} finally {
  await kiln.stop();
}
