import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import { hostKernels, openHost } from '../../client/host/host.ts';
import { isBeingChanged, withLock } from '../../client/host/lock.ts';
import { findProgram } from '../../client/host/programs.ts';
import { plain } from '../../client/terminal/output.ts';
import { freshDirectory } from '../machine/make-source.ts';

describe('a host', () => {
  it('has the kernels whose packages are there, not what one has left behind', async () => {
    const host = await openHost(await freshDirectory('kernels'));
    for (const path of ['6.1.0-1/kernel', '6.1.0-2/updates/kiln', '6.1.0-3'])
      await mkdir(join(host.root, 'lib/modules', path), { recursive: true });
    await writeFile(join(host.root, 'lib/modules/6.1.0-2/modules.dep'), '');
    await writeFile(join(host.root, 'lib/modules/6.1.0-3/modules.builtin'), '');
    expect(await hostKernels(host)).toEqual(['6.1.0-1', '6.1.0-3']);
  });

  it('has a program where a link of its own leads to it', async () => {
    const host = await openHost(await freshDirectory('programs'));
    await mkdir(join(host.root, 'usr/sbin'), { recursive: true });
    await symlink('/bin/kmod', join(host.root, 'usr/sbin/depmod'));
    await writeFile(join(host.root, 'usr/sbin/mokutil'), '');
    expect(await findProgram(host, 'mokutil', 'depmod')).toBe('/usr/sbin/depmod');
  });

  it('tells whether it is being changed', async () => {
    const host = await openHost(await freshDirectory('lock'));
    expect(await isBeingChanged(host)).toBe(false);
    await withLock(host, async () => expect(await isBeingChanged(host)).toBe(true));
    expect(await isBeingChanged(host)).toBe(false);
  });
});

describe('what others wrote', () => {
  it('commands no terminal', () => {
    expect(plain('a\u001b[2Jb\u009b1mc\td\ne\r\u202ef')).toBe('a[2Jb1mc\td\nef');
  });
});
