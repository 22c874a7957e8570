import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from '@jest/globals';
import { compareRpmTexts } from '../../services/core/kernel/rpm-version.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { mustRun } from '../machine/run.ts';

/** Versions of what real ones are made of, and of nothing else; the same ones each time. */
const versions = (count: number): readonly string[] => {
  let seed = 1;
  const below = (most: number): number => {
    seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
    return Math.floor(seed / 65_536) % most;
  };
  const parts = [
    '0',
    '1',
    '01',
    '9',
    '10',
    'a',
    'b',
    'rc',
    'el',
    'Z',
    '.',
    '_',
    '+',
    '~',
    '^',
    '..',
  ];
  return Array.from({ length: count }, () =>
    Array.from({ length: 1 + below(6) }, () => parts[below(parts.length)]).join(''),
  );
};

it('versions are ordered as rpm itself orders them', async () => {
  const real = [
    '427.el9',
    '427.20.1.el9_4',
    '427.9.1.el9_4',
    '301.fc40',
    '150600.23.42.1',
    '0.rc5.41.fc41',
  ];
  const all = [...real, ...versions(70)];
  const script = join(await freshDirectory('lua'), 'compare.lua');
  await writeFile(
    script,
    `local all = {${all.map((each) => `"${each}"`).join(',')}}
for _, a in ipairs(all) do for _, b in ipairs(all) do print(rpm.vercmp(a, b)) end end
`,
  );
  const said = (await mustRun('rpmlua', [script])).trim().split('\n').map(Number);
  const pairs = all.flatMap((a) => all.map((b) => [a, b] as const));
  expect(said).toHaveLength(pairs.length);
  expect(new Set(said)).toEqual(new Set([-1, 0, 1]));
  const ours = pairs.map(([a, b]) => `${a} ${b} ${Math.sign(compareRpmTexts(a, b))}`);
  expect(ours).toEqual(pairs.map(([a, b], index) => `${a} ${b} ${said[index]}`));
});
