import { describe, expect, it } from '@jest/globals';
import { loadModules, readParameters } from '../../client/install/load.ts';

describe('the parameters that modules are loaded with', () => {
  it('are read as the kernel’s command line has them, by module', () => {
    const given = ['v4l2loopback.devices=2', 'v4l2-loopback.card_label=a b.c=d', 'zfs.quiet'];
    expect([...readParameters(given)]).toEqual([
      ['v4l2loopback', ['devices=2']],
      ['v4l2_loopback', ['card_label=a b.c=d']],
      ['zfs', ['quiet']],
    ]);
  });

  it.each(['devices=2', 'v4l2loopback', '.devices=2', 'a.=1', '-r.x=1', 'a/b.c=1'])(
    'are refused where they name no module and parameter: %j',
    (given) => {
      expect(() => readParameters([given])).toThrow(/is not MODULE\.NAME=VALUE/);
    },
  );

  it('are told of where no such module was installed', async () => {
    expect(await loadModules([], readParameters(['zfs.quiet=1']))).toEqual([
      {
        source: 'zfs',
        module: 'zfs',
        problem: 'there are parameters for zfs, and no such module was installed',
      },
    ]);
  });
});
