import { KilnError } from '../../services/core/errors.ts';
import {
  type LoadFacts,
  isEnrolled,
  isPending,
} from '../../services/core/secure-boot/load-facts.ts';
import {
  BUILD_IT_IN,
  canEnrol,
  loadVerdict,
} from '../../services/core/secure-boot/load-verdict.ts';
import { moduleSigner, type ModuleSigner } from '../../services/core/module/module-signer.ts';
import type { Command, Context } from '../command.ts';
import { findProgram } from '../host/programs.ts';
import type { Host } from '../host/host.ts';
import { importCertificate, type EnrolmentPassword } from '../host/mokutil.ts';
import { chooseKernel, readLoadFacts } from '../host/secure-boot.ts';
import { readCertificate } from '../installed/verify.ts';

const REBOOT_SCREEN = `Now reboot, at the machine's own screen or console, with the password at hand. Before Linux starts
a blue screen comes up (MokManager, "Perform MOK management"):
  1. press a key within ten seconds, else the machine goes on booting and nothing is enrolled
  2. choose Enroll MOK
  3. choose View key 0, compare with the name and serial number above, and press a key to come back
  4. choose Continue, then Yes
  5. type the password; nothing shows while you type, and the keyboard is taken for a US one
  6. choose Reboot
After that kiln doctor says whether modules will load.`;

/** The state of the signer's certificate on this machine. */
type State = 'enrolled' | 'trusted' | 'pending' | 'none';

const enroll: Command = {
  name: 'enroll',
  args: '',
  summary: 'have this machine’s firmware trust the service’s signer, for Secure Boot (mokutil)',
  help: `Asks shim to enrol the pinned certificate as a machine owner key. It is done at the next boot, by somebody at the machine's
screen who has the password that is chosen now: that is what keeps malware from doing it. Does nothing if the
certificate is enrolled or trusted already.

      --certificate FILE     this one in place of the pinned one
      --password-file FILE   one line: the password that the boot screen will ask for; else mokutil asks on the terminal
      --root-pw              take root's password instead
      --check                only say how far it is; exit status 0 if enrolled or trusted, else 6`,
  options: {
    'password-file': { type: 'string' },
    'root-pw': { type: 'boolean' },
    check: { type: 'boolean' },
  },
  async run(context) {
    const host = await context.host();
    const signer = moduleSigner(await readCertificate(context.config.certificate));
    const release = await chooseKernel(host, undefined);
    const facts = await readLoadFacts(host, release);
    const state = stateOf(facts, signer);
    if (context.flag('check')) {
      print(context, signer, state, SENTENCES[state]);
      if (state === 'pending' || state === 'none')
        throw new KilnError('unverified', `${signer.subject} is not enrolled here`);
      return;
    }
    if (state !== 'none') {
      const more = state === 'pending' ? `\n\n${REBOOT_SCREEN}` : '';
      print(context, signer, state, `${SENTENCES[state]}; nothing was done${more}`);
      return;
    }
    const mokutil = await findMokutil(host, facts);
    if (!canEnrol(facts, signer))
      throw new KilnError(
        'install-failed',
        `kernel ${release} takes no module keys from the machine owner’s, so enrolling would not help; ${BUILD_IT_IN}`,
      );
    await importCertificate(mokutil, signer.certificate, passwordOf(context));
    if (!isPending(await readLoadFacts(host, release), signer)) {
      throw new KilnError(
        'install-failed',
        'mokutil said that all went well, but the firmware shows no such request; see mokutil --list-new',
      );
    }
    print(context, signer, 'pending', `the request is made\n\n${REBOOT_SCREEN}`);
  },
};

const SENTENCES: Readonly<Record<State, string>> = {
  enrolled: 'enrolled as a machine owner key',
  trusted: 'trusted by the running kernel already',
  pending: 'waits for a reboot',
  none: 'not enrolled',
};

const stateOf = (facts: LoadFacts, signer: ModuleSigner): State => {
  if (isEnrolled(facts, signer)) return 'enrolled';
  if (isPending(facts, signer)) return 'pending';
  const isChecked = facts.config === null || facts.config.has('MODULE_SIG');
  return isChecked && loadVerdict(facts, signer).verdict === 'loads' ? 'trusted' : 'none';
};

const print = (context: Context, signer: ModuleSigner, state: State, words: string): void =>
  context.print(
    `${signer.subject}, serial number ${signer.serial}\nSHA-256 ${signer.sha256}\n${words}`,
    { subject: signer.subject, serial: signer.serial, sha256: signer.sha256, state },
  );

const passwordOf = (context: Context): EnrolmentPassword => {
  const file = context.option('password-file');
  if (file !== undefined && context.flag('root-pw'))
    throw new KilnError('bad-request', 'give --password-file or --root-pw, not both');
  if (file !== undefined) return { from: 'file', file };
  return { from: context.flag('root-pw') ? 'root' : 'terminal' };
};

const findMokutil = async (host: Host, { firmware }: LoadFacts): Promise<string> => {
  if (host.root !== '/')
    throw new KilnError(
      'bad-request',
      'a certificate is enrolled in the firmware of the machine that runs; run kiln enroll there, without --root',
    );
  if (firmware?.isEfi !== true)
    throw new KilnError(
      'install-failed',
      'this machine was not started by EFI, so it has no machine owner keys to enrol in; without Secure Boot its kernel needs none (kiln doctor says more)',
    );
  const mokutil = await findProgram(host, 'mokutil');
  if (mokutil === null)
    throw new KilnError('install-failed', 'mokutil is not here; install the package mokutil');
  return mokutil;
};

export const ENROLL_COMMANDS: readonly Command[] = [enroll];
