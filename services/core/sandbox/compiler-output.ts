const ERROR_LINES: readonly RegExp[] = [
  /^(\S+:\d+(:\d+)?|<[\w-]+>): (fatal )?error: /,
  /^([\w.-]*(clang|gcc|cc1|ld(\.\w+)?)[\w.-]*: )?(fatal )?error: /,
  /^configure: error: \S|^\s*\*\*\* \S/,
  /^ERROR: modpost: /,
  /: undefined reference to /,
  /^(ld|collect2)(:|\.\S+:) /,
  /^patch: |^Hunk #\d+ FAILED/,
  /^(\S+: )?line \d+: .*: (command not found|No such file or directory)$/,
  /^\S+:\d+: \*\*\* /,
  /^make(\[\d+\])?: \*\*\* /,
  /^(?!.*\bwarning:)(\S+: )?\S+: .*(No such file or directory|Permission denied|not found|cannot |[Ee]rror)/,
  /^kiln: (the build|step|dkms\.conf|not for) /,
];

/** Characters of a line that are looked at: builds write the log, and patterns are slow on long lines. */
const LINE_LIMIT = 1000;

/**
 * The lines of a build's log that say why it failed: those of the most telling kind, the compiler's own first,
 * at most `limit` of them; the log's last lines where none is known.
 */
export const errorLines = (log: string, limit = 12): readonly string[] => {
  const lines = log
    .split('\n')
    .map((line) => line.slice(0, LINE_LIMIT))
    .filter((line) => line.trim() !== '');
  for (const pattern of ERROR_LINES) {
    const found = lines.filter((line) => pattern.test(line));
    if (found.length > 0) return found.slice(0, limit);
  }
  return lines.slice(-limit);
};
