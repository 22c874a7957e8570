import { appendFile, readFile } from 'node:fs/promises';
import type { Life } from './life.ts';
import type { Line } from './one-package.ts';
import type { Part } from './report.ts';

/** What a run keeps as soon as it knows it, so that another run goes on from there. */
export interface Kept {
  readonly needs?: Part['needs'];
  readonly line?: Line;
  readonly lives?: readonly Life[];
}

/** What was kept for a kernel, the newest of each. */
export interface Store {
  keep(each: Kept): Promise<void>;
  needs(): Part['needs'] | undefined;
  line(name: string): Line | undefined;
  lives(): readonly Life[] | undefined;
}

export const openStore = async (file: string, release: string): Promise<Store> => {
  const text = await readFile(file, 'utf8').catch(() => '');
  const all = text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Kept & { readonly release: string })
    .filter((each) => each.release === release) as Kept[];
  return {
    async keep(each) {
      all.push(each);
      await appendFile(file, `${JSON.stringify({ release, ...each })}\n`);
    },
    needs: () => all.findLast(({ needs }) => needs !== undefined)?.needs,
    line: (name) => all.findLast(({ line }) => line?.package === name)?.line,
    lives: () => all.findLast(({ lives }) => lives !== undefined)?.lives,
  };
};
