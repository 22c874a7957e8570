import { chmod, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import type { BuildView } from '../../services/core/protocol/build.ts';
import { containersOf } from '../machine/containers.ts';
import { startKiln } from '../machine/kiln-service.ts';
import { dkmsSource, freshDirectory } from '../machine/make-source.ts';
import { mustRun, run } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';
import { until } from '../machine/until.ts';

/** People of the Docker host and the builds that run there. */

const kiln = sharedKiln();

/** Users of this host that are not root, and who is the first person on most. */
const people = async (): Promise<readonly string[]> => {
  const passwd = await readFile('/etc/passwd', 'utf8');
  const ids = passwd.split('\n').map((line) => line.split(':')[2] ?? '0');
  return [...new Set(['1000', ...ids])].filter((id) => Number(id) > 0);
};

/** The process that a running build's container began with. */
const processOf = async (name: string): Promise<string> => {
  let found = '';
  await until(`the build of ${name} to run`, async () => {
    for (const id of await containersOf(kiln.data, 'status=running')) {
      const facts = await run('docker', ['inspect', '-f', '{{.State.Pid}} {{.Args}}', id]);
      const [pid = '', ...args] = facts.stdout.split(' ');
      if (args.join(' ').includes(`kiln ${name} 1.0 `)) found = pid;
    }
    return found !== '' && (await run('test', ['-e', `/proc/${found}/root/tmp/held`])).status === 0;
  });
  return found;
};

describe('a person on the Docker host', () => {
  it('who writes into a running build through /proc/PID/root is refused, whoever it is', async () => {
    const source = await dkmsSource('held', 'PRE_BUILD=hold', {
      hold: '#!/bin/sh\ntouch /tmp/held; until [ -e /tmp/go ]; do sleep 0.1; done\n',
    });
    await chmod(join(source, 'hold'), 0o755);
    const building = kiln.json<BuildView>('build', source, '-k', kiln.kernel);
    const root = `/proc/${await processOf('held')}/root`;
    const wrote: string[] = [];
    for (const id of await people()) {
      const as = ['--reuid', id, '--regid', id, '--clear-groups'];
      const write = `echo 'MODULE_INFO(written_by, "${id}");' >>${root}/var/lib/dkms/held/1.0/build/held.c`;
      const { status } = await run('setpriv', [...as, 'sh', '-c', write]);
      if (status === 0) wrote.push(id);
    }
    await mustRun('touch', [`${root}/tmp/go`]);
    const made = await building;
    expect(wrote).toEqual([]);
    expect(made.state).toBe('succeeded');
    expect(JSON.stringify(made.modules)).not.toContain('written_by');
  });

  it('who has an id that builds would run as keeps the builder from starting, by name', async () => {
    const starting = startKiln(await freshDirectory('overlapping'), {
      KILN_BUILD_USERS: '65530-65540',
    });
    await expect(starting).rejects.toThrow(
      /kilnd: builds would run as users 65530-65540, of which \/etc\/passwd on the Docker host gives 655\d\d to \S+, .*set KILN_BUILD_USERS/,
    );
  });
});
