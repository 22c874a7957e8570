import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import type { SyncView } from '../../services/core/protocol/archive.ts';
import type { BuildView } from '../../services/core/protocol/build.ts';
import { fewHeaders } from '../machine/few-headers.ts';
import { LAYOUTS, packLaid, type LaidHeaders } from '../machine/header-layouts.ts';
import { pinToolchain, startKiln, type KilnService } from '../machine/kiln-service.ts';
import { dkmsSource, freshDirectory } from '../machine/make-source.ts';
import { makeArchive } from '../machine/own-archive.ts';
import { sharedKiln } from '../machine/shared.ts';

const shared = sharedKiln();
let kiln: KilnService;
let laid: LaidHeaders;
beforeAll(async () => {
  kiln = await startKiln(await freshDirectory('ubuntu'), { KILN_LOG_LEVEL: 'warn' });
  await pinToolchain(kiln);
  const lay = LAYOUTS['Ubuntu’s HWE kernels'];
  if (lay === undefined) throw new Error('no such layout');
  laid = await lay(await fewHeaders(shared.release), shared.release);
});
afterAll(async () => {
  await kiln.stop();
});

it('Ubuntu’s archive is followed by its names alone: what headers stand on comes along, whatever it is called', async () => {
  const [[flavour = ''] = [], [common = ''] = []] = laid.packages;
  const half = 'linux-hwe-6.8-headers-6.8.0-40';
  const packages = [
    await packLaid(laid, [flavour], {
      name: `linux-headers-${laid.release}`,
      version: '6.8.0-40.40~22.04.3',
      depends: `${half}, libc6 (>= 2.34), libelf1 (>= 0.144), libssl3 (>= 3.0.0)`,
    }),
    await packLaid(laid, [common], { name: half, version: '6.8.0-40.40~22.04.3' }),
    // Older, and of a name that is no kernel's headers: neither is taken.
    await packLaid(laid, [], { name: 'linux-headers-6.8.0-9-generic', version: '6.8.0-9.9' }),
    await packLaid(laid, [], { name: 'linux-headers-generic', version: '6.8.0-40.40' }),
  ];
  const sources = join(await freshDirectory('sources'), 'ubuntu.sources');
  const archive = await makeArchive('ubuntu-archive');
  for (const each of packages) await archive.addFile(each);
  await archive.publish();
  await writeFile(sources, archive.sources);
  const headers = String.raw`linux-headers-(?<release>6\.8\.0-\d+-(?<flavour>generic))`;
  await kiln.json('archive', 'add', 'noble', '--sources', sources, '--headers', headers);
  const source = await dkmsSource('followed', 'AUTOINSTALL=yes');
  await kiln.json('source', 'push', source);
  const sync = await kiln.json<SyncView>('kernel', 'sync', '--wait');
  expect(sync).toMatchObject({
    kernels: [{ release: laid.release, isNew: true }],
    problems: [],
    builds: [expect.any(String)],
  });
  expect(await kiln.json<BuildView>('show', sync.builds[0] ?? '')).toMatchObject({
    state: 'succeeded',
    kernel: { release: laid.release },
    signature: { kind: 'signed' },
  });
  // The same headers, whoever brings them.
  const pushed = await kiln.json('kernel', 'push', '--root', laid.root, '-k', laid.release);
  expect(pushed).toMatchObject({ digest: sync.kernels[0]?.digest, sent: 0 });
});
