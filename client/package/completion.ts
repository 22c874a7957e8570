import type { Command, Options } from '../command.ts';

/** Completion for bash, made of the command table: commands, their options, kernels after `-k`; else files. Needs bash alone. */
export const bashCompletion = (commands: readonly Command[], common: Options): string => {
  const seconds = Map.groupBy(
    commands.map(({ name }) => name.split(' ')).filter(({ length }) => length === 2),
    ([first]) => first ?? '',
  );
  const firsts = [...new Set(commands.map(({ name }) => name.split(' ')[0] ?? ''))];
  const groups = [...seconds].map(
    ([first, names]) => `    ${first}) words='${names.map(([, second]) => second).join(' ')}' ;;`,
  );
  const options = commands
    .filter((command) => Object.keys(command.options).length > 0)
    .map(
      ({ name, options: own }) =>
        `      ${pattern(name)}) words+=' ${optionWords(own).join(' ')}' ;;`,
    );
  return `# bash completion for kiln(8), made of its command table
_kiln() {
  local word=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD - 1]} words=''
  COMPREPLY=()
  if [[ $COMP_CWORD -eq 1 ]]; then
    words='${firsts.join(' ')} --help'
  elif [[ $before == -k || $before == --kernel ]]; then
    words=$(ls /lib/modules 2>/dev/null || true)
  elif [[ $word == -* ]]; then
    words='${optionWords(common).join(' ')}'
    case "\${COMP_WORDS[1]} \${COMP_WORDS[2]}" in
${options.join('\n')}
    esac
  elif [[ $COMP_CWORD -eq 2 ]]; then
    case \${COMP_WORDS[1]} in
${groups.map((line) => `  ${line}`).join('\n')}
    esac
  fi
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -o default -F _kiln kiln
`;
};

/** The pattern of bash that matches a command: one of a single word with anything behind it, one of two words by itself. */
const pattern = (name: string): string => (name.includes(' ') ? `'${name}'` : `'${name} '*`);

const optionWords = (options: Options): readonly string[] =>
  Object.entries(options).flatMap(([name, { short }]) => [
    `--${name}`,
    ...(short === undefined ? [] : [`-${short}`]),
  ]);
