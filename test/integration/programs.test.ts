import { describe, expect, it } from '@jest/globals';
import { run } from '../../client/host/programs.ts';

describe('a program of the host', () => {
  it('gets its input and gives its output', async () => {
    const input = Buffer.from('in');
    expect(await run('cat', [], { input, limit: 10 })).toEqual({
      status: 0,
      stdout: input,
      words: '',
      isMissing: false,
    });
  });

  it('has its exit status and first words kept', async () => {
    const end = await run('sh', ['-c', 'echo wrong >&2; yes | head -c 100000 >&2; exit 3']);
    expect(end).toMatchObject({ status: 3, words: expect.stringMatching(/^wrong\ny/) });
    expect(end.words.length).toBeLessThanOrEqual(500);
  });

  it('is ended when it writes too much or takes too long', async () => {
    expect(await run('yes', [], { limit: 1000 })).toMatchObject({
      status: 1,
      words: 'yes wrote more than 1000 bytes',
    });
    expect(await run('sleep', ['60'], { seconds: 0.2 })).toMatchObject({
      status: 1,
      words: 'sleep took more than 0.2 s',
    });
  });

  it('that is not there is said to be missing', async () => {
    expect(await run('no-such-program', [])).toMatchObject({ status: 127, isMissing: true });
  });
});
