import { errorTable } from '../../services/core/errors.ts';
import type { Command } from '../command.ts';

/**
 * The manual page kiln(8) as man(7) source, made of the command table, what `--help` says of the options that all commands take,
 * and the packaged configuration file, whose comments explain its keys.
 */
export const manPage = (
  commands: readonly Command[],
  commonHelp: string,
  config: string,
  version: string,
): string => `.\\" Made of the command table: client/package/man-page.ts
.TH KILN 8 "" "kiln ${escape(version)}" "System Administration"
.SH NAME
kiln \\- kernel modules built, signed and verified elsewhere, installed here without a compiler
.SH SYNOPSIS
.B kiln
.I COMMAND
.RI [ ARGUMENT ]
.RI [ OPTION ...]
.SH DESCRIPTION
${paragraph(DESCRIPTION)}
.SH COMMANDS
${commands.map(section).join('\n')}
.SH COMMON OPTIONS
${helpText(commonHelp.split('\n').slice(1).join('\n'))}
.SH EXIT STATUS
${exitStatuses()}
.SH CONFIGURATION
${paragraph('/etc/kiln/config has lines “key = value”; # begins a comment.')}
${configKeys(config)}
.SH HOOKS
${paragraph(HOOKS)}
${HOOK_FILES.map(([file, text]) => item(file, text)).join('\n')}
.SH ENVIRONMENT
${ENVIRONMENT.map(([name, text]) => item(name, text)).join('\n')}
.SH FILES
${FILES.map(([file, text]) => item(file, text)).join('\n')}
.SH SEE ALSO
.BR modprobe (8),
.BR depmod (8),
.BR modinfo (8),
.BR kernel\\-install (8),
.BR run\\-parts (8),
.BR dkms (8)
`;

const DESCRIPTION = `kiln asks a Kiln service for out-of-tree kernel modules, built for just the kernels of this host. Before it installs
one it verifies its digest, its signature against the pinned certificate, its name and its vermagic. The host needs no compiler and no headers.`;

const HOOKS = `The package manager runs these when a kernel comes or goes. They end well whatever happens, after eleven minutes at most, and
say in one line what could not be done. What they missed, kiln-autoinstall.timer catches up with.`;

const HOOK_FILES = [
  [
    '/etc/kernel/postinst.d/70-kiln, /etc/kernel/header_postinst.d/70-kiln',
    'kiln autoinstall for the new kernel, before its initramfs is made',
  ],
  [
    '/etc/kernel/prerm.d/70-kiln, /etc/kernel/postrm.d/70-kiln',
    'kiln autoremove for the kernel that goes',
  ],
  [
    '/etc/kernel/postinst.d/zzz-kiln-guard, /etc/kernel/postrm.d/zzz-kiln-guard',
    'kiln guard, after the boot loader’s own hooks; does nothing unless guard = yes',
  ],
  [
    '/usr/lib/kernel/install.d/40-kiln.install, 99-kiln-guard.install',
    'the same for kernel-install',
  ],
  [
    'kiln-autoinstall.timer',
    'kiln autoinstall for every kernel, at boot and every hour; systemctl disable ends it',
  ],
  [
    'kiln-recover.service',
    'at boot, before modules are loaded: finishes or undoes a change that a power cut interrupted',
  ],
] as const;

const ENVIRONMENT = [
  ['KILN_CONFIG', 'the configuration file, instead of /etc/kiln/config'],
  ['KILN_SERVER, KILN_TOKEN_FILE', 'stand above the configuration file and below options'],
  ['NO_COLOR', 'no colour'],
] as const;

const FILES = [
  ['/etc/kiln/config', 'the configuration'],
  ['/etc/kiln/signer.pem', 'the certificate that kiln setup has pinned'],
  ['/lib/modules/RELEASE/updates/kiln', 'installed modules'],
  ['/var/lib/kiln/receipts', 'what was installed for which kernel, and where it came from'],
] as const;

const section = ({ name, args, summary, help }: Command): string =>
  [
    `.SS "${escape(`kiln ${name} ${args}`.trim())}"`,
    paragraph(sentence(summary)),
    ...(help === '' ? [] : [helpText(help)]),
  ].join('\n');

const sentence = (text: string): string =>
  `${text.slice(0, 1).toUpperCase()}${text.slice(1)}${text.endsWith('.') ? '' : '.'}`;

/** An option's line in a help text: the option, then two blanks (or one before a lower-case word), then its description. */
const OPTION = /^ +(-.*?)(?:(?: {2,}|(?<=[A-Z…]) (?=[a-z]))(.*))?$/;

/** Help text as paragraphs and tagged items: lines that begin with an option, deeper lines that go on with it, prose. */
const helpText = (help: string): string => {
  const parts: { readonly tag: string | null; readonly text: string }[] = [];
  for (const line of help.split('\n')) {
    const option = OPTION.exec(line);
    const last = parts.at(-1);
    const goesOn =
      last !== undefined && last.text !== '' && line.startsWith(' ') === (last.tag !== null);
    if (option !== null) parts.push({ tag: option[1] ?? '', text: option[2] ?? '' });
    else if (line.trim() === '') parts.push({ tag: null, text: '' });
    else if (goesOn) parts.splice(-1, 1, { ...last, text: `${last.text} ${line.trim()}` });
    else parts.push({ tag: null, text: line.trim() });
  }
  return parts
    .filter(({ tag, text }) => tag !== null || text !== '')
    .map(({ tag, text }) => (tag === null ? `.PP\n${paragraph(text)}` : item(tag, text)))
    .join('\n');
};

/** Every exit status with the errors that end so. */
const exitStatuses = (): string =>
  [...Map.groupBy(errorTable(), ({ exit }) => exit)]
    .sort(([a], [b]) => a - b)
    .reduce(
      (lines, [exit, errors]) => [
        ...lines,
        item(String(exit), errors.map(({ code, meaning }) => `${meaning} (${code}).`).join(' ')),
      ],
      [item('0', 'Done.')],
    )
    .join('\n');

/** Blocks of the configuration file that end with a commented-out `key = value`; the lines above it explain the key. */
const configKeys = (config: string): string =>
  config
    .split(/\n{2,}/)
    .flatMap((block) => {
      const lines = block.trim().split('\n');
      const setting = /^#(\S+ = .+)$/.exec(lines.at(-1) ?? '')?.[1];
      const text = lines.slice(0, -1).map((line) => line.replace(/^# ?/, ''));
      return setting === undefined ? [] : [item(setting, text.join(' '))];
    })
    .join('\n');

const item = (tag: string, text: string): string =>
  `.TP\n.B ${escape(tag)}\n${text === '' ? '\\&' : paragraph(text)}`;

/** Text that roff fills; a line that begins as a request would is kept from being one. */
const paragraph = (text: string): string =>
  escape(text.replace(/\s+/g, ' ').trim()).replace(/^(?=[.'\\])/, '\\&');

const SPECIAL: Readonly<Record<string, string>> = {
  '\\': '\\e',
  '-': '\\-',
  "'": '\\(aq',
  '`': '\\(ga',
  '^': '\\(ha',
  '~': '\\(ti',
  '"': '\\(dq',
};

const escape = (text: string): string =>
  text
    .replace(/[\\\-'`^~"]/g, (character) => SPECIAL[character] ?? '')
    .replace(
      /[^\0-~]/gu,
      (character) =>
        `\\[u${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}]`,
    );
