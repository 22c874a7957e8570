import { chmod } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from '@jest/globals';
import type { BuildView } from '../../services/core/protocol/build.ts';
import { dkmsSource, moduleCode } from '../machine/make-source.ts';
import { sharedKiln } from '../machine/shared.ts';

const kiln = sharedKiln();

it('a source that reads /dev/urandom differs when it is made again, and rebuild names where, and how to tell whose doing it is', async () => {
  const source = await dkmsSource('random', 'PRE_BUILD=draw', {
    draw: `#!/bin/sh\nprintf '#define DRAWN "%s"\\n' "$(od -An -tx8 -N8 /dev/urandom)" >drawn.h\n`,
    'random.c': moduleCode('#include "drawn.h"\nMODULE_INFO(drawn, DRAWN);'),
  });
  await chmod(join(source, 'draw'), 0o755);
  const { id } = await kiln.json<BuildView>('build', source, '-k', kiln.kernel);
  const { status, stderr } = await kiln.kiln('rebuild', id, '-q');
  expect([status, stderr]).toEqual([
    6,
    expect.stringMatching(
      /other bytes: random\.ko \(in [^)]*\.modinfo[^)]*\); either the source puts in what is another each time \(random numbers, a count\), or Kiln did not hold still what it should\. To tell, make it twice on one machine with dkms or make: /,
    ),
  ]);
  expect(stderr).not.toMatch(/\(in [^)]*\.text/);
});
