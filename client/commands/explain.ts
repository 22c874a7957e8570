import { explainInputs } from '../../services/core/build/explain.ts';
import { onlyArgument, type Command } from '../command.ts';
import { resolveRows, rowsOf, standings } from '../installed/standing.ts';

export const explain: Command = {
  name: 'explain',
  args: 'MODULE | BUILD BUILD',
  summary: 'compare an installed module with what would be built now, or two builds, in words',
  help: `  -k, --kernel RELEASE   only for this kernel
      --root DIR         of another root`,
  options: { kernel: { type: 'string', short: 'k' } },
  async run(context) {
    const [first, second] = context.args;
    if (first !== undefined && second !== undefined) {
      const [before, after] = [
        await context.service.build(first),
        await context.service.build(second),
      ];
      const differences = explainInputs(before.inputs, after.inputs);
      context.print(sayDifferences(differences), { before: first, after: second, differences });
      return;
    }
    const name = onlyArgument(context, 'module, or two builds');
    const host = await context.host();
    const release = context.option('kernel');
    const rows = rowsOf(await standings(host), name).filter(
      (row) => release === undefined || row.release === release,
    );
    const resolved = await resolveRows(host, context.service, rows);
    const said = resolved.map(({ row, view }) => {
      const problem = view !== undefined && 'problem' in view ? view.problem.detail : null;
      const differences =
        row.receipt === null || view === undefined || 'problem' in view
          ? []
          : explainInputs(row.receipt.inputs, view.inputs);
      return {
        name,
        release: row.release,
        state: row.state,
        because: row.because,
        problem,
        differences,
      };
    });
    context.print(
      said
        .map(({ release: kernel, state, because, problem, differences }) =>
          [
            `${name} for ${kernel}: ${state}`,
            ...because.map((words) => `  ${words}`),
            ...(problem === null ? [] : [`  the service cannot build it now: ${problem}`]),
            ...(state === 'missing' || problem !== null
              ? []
              : [indent(sayDifferences(differences))]),
          ].join('\n'),
        )
        .join('\n'),
      said,
    );
  },
};

const indent = (text: string): string => text.replaceAll(/^/gm, '  ');

const sayDifferences = (differences: readonly { readonly words: string }[]): string =>
  differences.length === 0
    ? 'built from the same inputs: the same bytes'
    : differences.map(({ words }) => words).join('\n');
