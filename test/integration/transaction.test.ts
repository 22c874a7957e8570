import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, rename, stat, symlink, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeEach, describe, expect, it } from '@jest/globals';
import { openHost, type Host } from '../../client/host/host.ts';
import { withLock } from '../../client/host/lock.ts';
import { readPrevious } from '../../client/transaction/previous.ts';
import type { Change } from '../../client/transaction/change.ts';
import { recover, runTransaction } from '../../client/transaction/transaction.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { CHECKOUT } from '../machine/places.ts';
import { until } from '../machine/until.ts';

const HOME = 'lib/modules/6.1.0-1-amd64';
const IMAGE = 'boot/initrd.img-6.1.0-1-amd64';

describe('a transaction', () => {
  let outside: string;
  let host: Host;

  beforeEach(async () => {
    outside = await freshDirectory('outside');
    host = await openHost(await freshDirectory('host'));
    await lay(`${HOME}/kernel/old.ko`, 'old');
    await lay(IMAGE, 'old');
  });

  const at = (path: string): string => join(host.root, path);
  const lay = async (path: string, text: string): Promise<void> => {
    await mkdir(dirname(at(path)), { recursive: true });
    await writeFile(at(path), text);
  };
  const read = (path: string): Promise<string> => readFile(at(path), 'utf8');
  const change = (...changes: Change[]): Promise<unknown> =>
    runTransaction(host, {
      title: 'try',
      changes,
      releases: [],
      images: [],
    });

  it.each([`${HOME}/updates`, 'var', 'var/lib/kiln'])(
    'refuses another root whose %s leads out of it, and changes nothing there',
    async (link) => {
      await mkdir(dirname(at(link)), { recursive: true });
      await mkdir(join(outside, 'kiln'), { recursive: true });
      await symlink(outside, at(link));
      const work = (): Promise<unknown> =>
        change({ path: `${HOME}/updates/kiln/a.ko`, to: Buffer.from('new') });
      await expect(withLock(host, work)).rejects.toThrow(/leads out of/);
      expect(await readdir(outside, { recursive: true })).toEqual(['kiln']);
    },
  );

  it('does not undo through a link that leads out of another root', async () => {
    await writeFile(join(outside, 'a.ko'), 'theirs');
    await symlink(outside, at(`${HOME}/updates`));
    const paths = [{ path: `${HOME}/updates/a.ko`, had: false }];
    await lay(
      'var/lib/kiln/journal.json',
      JSON.stringify({ state: 'applying', title: 'x', paths }),
    );
    await expect(recover(host)).rejects.toThrow(/leads out of/);
    expect(await readFile(join(outside, 'a.ko'), 'utf8')).toBe('theirs');
  });

  it('leaves the lock to the programs that it began when it is killed', async () => {
    const [started, goOn, done] = [at('started'), at('go-on'), at('done')];
    const late = `touch ${started}; until [ -e ${goOn} ]; do sleep 0.1; done; echo new > ${at(IMAGE)}.new; mv ${at(IMAGE)}.new ${at(IMAGE)}; touch ${done}`;
    const program = `
      const { withLock } = await import(${JSON.stringify(resolve(CHECKOUT, 'client/host/lock.ts'))});
      const { run } = await import(${JSON.stringify(resolve(CHECKOUT, 'client/host/programs.ts'))});
      const { runTransaction } = await import(${JSON.stringify(resolve(CHECKOUT, 'client/transaction/transaction.ts'))});
      const host = { root: ${JSON.stringify(host.root)} };
      await withLock(host, () => runTransaction(host, {
        title: 'killed',
        changes: [{ path: '${HOME}/updates/kiln/a.ko', to: Buffer.from('new') }],
        releases: [],
        images: [{ path: '${IMAGE}', refresh: () => run('sh', ['-c', ${JSON.stringify(late)}]) }],
        }));`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    const ended = once(child, 'exit');
    const isThere = (path: string): Promise<boolean> =>
      stat(path).then(
        () => true,
        () => false,
      );
    await until('the program is at work', () => isThere(started));
    child.kill('SIGKILL');
    await ended;
    const recovering = withLock(host, () => recover(host));
    // Time enough to recover, if nothing held it back.
    await sleep(1000);
    await writeFile(goOn, '');
    expect(await recovering).toMatch(/undid/);
    expect(await isThere(done)).toBe(true);
    expect(await read(IMAGE)).toBe('old');
    await expect(stat(at(`${HOME}/updates`))).rejects.toThrow(/ENOENT/);
  });

  it('can be undone twice, and after an undoing that was killed halfway', async () => {
    const [a, b] = [`${HOME}/updates/kiln/a.ko`, `${HOME}/updates/kiln/b.ko`];
    await lay(a, 'new');
    await lay(b, 'new');
    await lay(`${b}.kiln-old`, 'old');
    await lay(`${a}.kiln-old`, 'old');
    const paths = [a, b].map((path) => ({ path, had: true }));
    const journal = JSON.stringify({ state: 'applying', title: 'x', paths });
    // Killed after the first path of two was put back.
    await rename(at(`${b}.kiln-old`), at(b));
    await lay('var/lib/kiln/journal.json', journal);
    await recover(host);
    expect([await read(a), await read(b)]).toEqual(['old', 'old']);
    await lay('var/lib/kiln/journal.json', journal);
    await recover(host);
    expect([await read(a), await read(b)]).toEqual(['old', 'old']);
  });

  it('that changes nothing for good keeps what the last one can be rolled back to', async () => {
    await change({ path: `${HOME}/updates/kiln/a.ko`, to: Buffer.from('1') });
    const failing = (refuse: () => Promise<string | null>): Promise<string | null> =>
      runTransaction(
        host,
        {
          title: 'failing',
          changes: [{ path: `${HOME}/updates/kiln/a.ko`, to: Buffer.from('2') }],
          releases: [],
          images: [],
        },
        refuse,
      );
    await expect(failing(() => Promise.reject(new Error('no')))).rejects.toThrow(
      /nothing was changed/,
    );
    expect(await failing(async () => 'refused')).toBe('refused');
    expect(await read(`${HOME}/updates/kiln/a.ko`)).toBe('1');
    expect((await readPrevious(host)).title).toBe('try');
  });
});
