/** A check of the suite that did not pass. */
export interface Miss {
  /** The group of checks that it is in, as the suite's own comments name them. */
  readonly group: string;
  /** What the suite says it does there. */
  readonly title: string;
  /** The command that was run. */
  readonly command: string;
  /** What differs. */
  readonly words: string;
}

/** The outcome of a run. */
export interface Outcome {
  readonly passed: number;
  readonly misses: readonly Miss[];
}

/** The suite's functions that check something: each call counts, and none ends the run. */
const CHECKS = [
  'run_with_expected_error',
  'run_status_with_expected_output',
  'check_make_log_content',
  'check_no_dkms_test',
  'check_module_source_tree_created',
];

const COUNTING = `
for check in ${CHECKS.join(' ')}; do
  eval "original_$(declare -f $check)"
  eval "$check() { if (original_$check \\"\\$@\\"); then echo '#passed'; else echo \\"#missed \\$*\\"; fi; return 0; }"
done
`;

/**
 * The text of dkms's run_test.sh so that it goes on after a check that does not pass, and says what became of each. Who signs is the one
 * thing that it is told: its three lines about dkms's own key are replaced by what Kiln's dkms says (`server`).
 */
export const adaptSuite = (text: string, server: string): string => {
  const put = (from: RegExp, to: string): void => {
    if (!from.test(text)) throw new Error(`the suite has no ${from.source} any more`);
    text = text.replace(from, () => to);
  };
  put(/^set -eu$/m, 'set -u');
  put(/^SIGNING_PROLOGUE_command=.*$/m, 'SIGNING_PROLOGUE_command="Sign command: Kiln"');
  put(/^SIGNING_PROLOGUE_key=.*$/m, `SIGNING_PROLOGUE_key="Signing key: held by ${server}"`);
  put(
    /^SIGNING_PROLOGUE_cert=.*$/m,
    'SIGNING_PROLOGUE_cert="Public certificate (MOK): /etc/kiln/signer.pem"',
  );
  put(/^mod_compression_ext=$/m, `${COUNTING}\nmod_compression_ext=`);
  return text;
};

/** Reads what an adapted run printed. */
export const readOutcome = (output: string): Outcome => {
  const misses: Miss[] = [];
  let [passed, group, title] = [0, '', ''];
  let words: string[] = [];
  for (const line of output.split('\n')) {
    if (line === '#passed') {
      passed += 1;
      words = [];
    } else if (line.startsWith('#missed ')) {
      misses.push({
        group,
        title,
        command: line.slice('#missed '.length),
        words: words.join('\n'),
      });
      words = [];
    } else if (line.startsWith('*** ')) group = line.slice(4);
    // What the suite says it does comes before what a check says of it.
    else if (words.length === 0 && /^ ?[A-Z(][a-z]/.test(line) && !line.startsWith('Error'))
      title = line.trim();
    else words.push(line);
  }
  return { passed, misses };
};
