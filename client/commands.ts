import type { Command, Options } from './command.ts';
import { ARCHIVE_COMMANDS } from './commands/archive.ts';
import { AUTOINSTALL_COMMANDS } from './commands/autoinstall.ts';
import { build } from './commands/build.ts';
import { BUILDS_COMMANDS } from './commands/builds.ts';
import { BUNDLE_COMMANDS } from './commands/bundle.ts';
import { DOCTOR_COMMANDS } from './commands/doctor.ts';
import { ENROLL_COMMANDS } from './commands/enroll.ts';
import { explain } from './commands/explain.ts';
import { guard } from './commands/guard.ts';
import { importDkms } from './commands/import-dkms.ts';
import { install } from './commands/install.ts';
import { KERNEL_COMMANDS } from './commands/kernel.ts';
import { MISS_COMMANDS } from './commands/misses.ts';
import { packageCommand } from './commands/package.ts';
import { recover } from './commands/recover.ts';
import { remove } from './commands/remove.ts';
import { REPO_COMMANDS } from './commands/repo.ts';
import { rollback } from './commands/rollback.ts';
import { SETUP_COMMANDS } from './commands/setup.ts';
import { SOURCE_COMMANDS } from './commands/source.ts';
import { status } from './commands/status.ts';
import { TOKEN_COMMANDS } from './commands/token.ts';
import { TOOLCHAIN_COMMANDS } from './commands/toolchain.ts';
import { verify } from './commands/verify.ts';
import { WITHDRAW_COMMANDS } from './commands/withdraw.ts';
import { configPath } from './config.ts';
import { incomplete } from './installed/standing.ts';

/** Every command, in the order that `kiln --help` lists them. */
export const COMMANDS: readonly Command[] = [
  install,
  remove,
  rollback,
  recover,
  status,
  explain,
  verify,
  ...AUTOINSTALL_COMMANDS,
  ...BUNDLE_COMMANDS,
  importDkms,
  guard(incomplete),
  build,
  ...BUILDS_COMMANDS,
  packageCommand,
  ...SETUP_COMMANDS,
  ...DOCTOR_COMMANDS,
  ...ENROLL_COMMANDS,
  ...SOURCE_COMMANDS,
  ...KERNEL_COMMANDS,
  ...ARCHIVE_COMMANDS,
  ...REPO_COMMANDS,
  ...TOOLCHAIN_COMMANDS,
  ...TOKEN_COMMANDS,
  ...WITHDRAW_COMMANDS,
  ...MISS_COMMANDS,
];

/** Options that every command takes. */
export const COMMON_OPTIONS = {
  server: { type: 'string' },
  'token-file': { type: 'string' },
  certificate: { type: 'string' },
  ca: { type: 'string' },
  patience: { type: 'string' },
  root: { type: 'string' },
  'run-programs-of-root': { type: 'boolean' },
  json: { type: 'boolean' },
  quiet: { type: 'boolean', short: 'q' },
  help: { type: 'boolean', short: 'h' },
} as const satisfies Options;

/** The help text of `COMMON_OPTIONS`. */
export const COMMON_HELP = `everywhere, before the command or behind it
      --server URL, --token-file FILE, --certificate FILE   instead of what ${configPath()} says
      --ca FILE          CAs (PEM) that https is trusted by, besides the system's
      --patience SECONDS keep trying so long to reach the service (default 60; 0: one try)
      --root DIR         the host whose root is there, not this machine's
      --run-programs-of-root   let its update-initramfs, dracut, dkms, weak-modules and boot loader's tools run (chroot, as root)
      --json             the result as JSON on standard output
  -q, --quiet            no progress on standard error
  -h, --help             this text; kiln COMMAND --help says more`;
