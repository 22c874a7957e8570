import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { removeLeft } from './containers.ts';
import { debianHeaders, debianSource, newestRelease } from './debian.ts';
import { pinToolchain, startKiln } from './kiln-service.ts';
import { WORK } from './places.ts';
import { startPostgres } from './postgres.ts';
import { RECORD_SERVER } from './record-place.ts';
import { makeSeed } from './seed.ts';

/**
 * Runs a command (jest) while a Kiln of its own is up that has a toolchain, Debian's newest 6.1 headers and v4l2loopback.
 * Tests find it through `shared.ts`. Ends with the command's status.
 */
const withKiln = async (program: string, args: readonly string[]): Promise<number> => {
  const data = join(WORK, 'test/kiln');
  await removeLeft();
  await rm(data, { recursive: true, force: true });
  const postgres = process.env['KILN_TEST_STORES'] === 'servers' ? await startPostgres() : null;
  if (postgres !== null) process.env[RECORD_SERVER] = JSON.stringify(postgres.server);
  const release = await newestRelease();
  const headers = await debianHeaders(release);
  const source = await debianSource('v4l2loopback-dkms');
  await makeSeed();
  const kiln = await startKiln(data, { KILN_CONCURRENCY: '2', KILN_LOG_LEVEL: 'warn' });
  try {
    const toolchain = await pinToolchain(kiln);
    const kernel = await kiln.json<{ digest: string }>('kernel', 'push', headers);
    await kiln.json('source', 'push', source);
    const shared = {
      url: kiln.url,
      data,
      release,
      headers,
      source,
      toolchain,
      kernel: kernel.digest,
      pid: kiln.process.pid,
    };
    const child = spawn(program, args, {
      stdio: 'inherit',
      env: { ...process.env, KILN_TEST_SHARED: JSON.stringify(shared) },
    });
    const [code] = (await once(child, 'exit')) as [number | null];
    return code ?? 1;
  } finally {
    await kiln.stop();
    await postgres?.stop();
    await writeFile(join(WORK, 'test/kilnd.log'), kiln.output());
  }
};

const [program = '', ...args] = process.argv.slice(2);
process.exit(await withKiln(program, args));
