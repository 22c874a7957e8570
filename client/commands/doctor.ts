import { KilnError } from '../../services/core/errors.ts';
import {
  isSecureBootOn,
  isEnrolled,
  isPending,
} from '../../services/core/secure-boot/load-facts.ts';
import { loadVerdict, type LoadVerdict } from '../../services/core/secure-boot/load-verdict.ts';
import { moduleSigner } from '../../services/core/module/module-signer.ts';
import { table, type Command } from '../command.ts';
import {
  clientMade,
  clockCheck,
  hostChecks,
  kernelChecks,
  modulesCheck,
  serviceHealth,
  signerChecks,
  type Check,
} from '../installed/health.ts';
import { chooseKernel, readLoadFacts } from '../host/secure-boot.ts';
import { readCertificate } from '../installed/verify.ts';

const NO_SIGNER: LoadVerdict = {
  verdict: 'unknown',
  because: 'no certificate is pinned, and the service gives none',
  next: 'run kiln setup URL',
};

const doctor: Command = {
  name: 'doctor',
  args: '',
  summary: 'say whether this host’s kernel will load the service’s modules, and the next step',
  help: `Reads Secure Boot, lockdown, the kernel's signature policy and its keyrings, compares with the signer, and looks at what an
installation needs. It changes nothing; as root it sees more. Exit status 0 when the kernel will load the modules (also if
it then marks itself as tainted), 6 when it will refuse them or that cannot be known.

  -k, --kernel RELEASE   default: the running kernel, or the only one below --root
      --root DIR         of another root: by its files, and a /proc and /sys below it`,
  options: { kernel: { type: 'string', short: 'k' } },
  async run(context) {
    const { config, service } = context;
    const host = await context.host();
    const facts = await readLoadFacts(host, await chooseKernel(host, context.option('kernel')));
    const pinned = config.certificate === null ? null : await readCertificate(config.certificate);
    context.progress.step(`asking ${config.server}`);
    const health = await serviceHealth(config.server, service, pinned);
    context.progress.done();
    const certificate = pinned ?? health.certificate;
    const signer = certificate === null ? null : moduleSigner(certificate);
    const load = signer === null ? NO_SIGNER : loadVerdict(facts, signer);
    const checks: readonly Check[] = [
      ...kernelChecks(facts),
      ...(signer === null ? [] : signerChecks(facts, signer)),
      ...health.checks,
      clockCheck(Date.now(), await clientMade(), signer),
      await modulesCheck(host, facts.release),
      ...(await hostChecks(host)),
    ];
    const next = chooseStep(load, checks);
    const sentence = `${VERDICTS[load.verdict]}: ${load.because}`;
    const rows = checks.map(({ name, value }) => [name, value]);
    context.print(
      table([...rows, ['', ''], ['verdict', sentence], ['next', next ?? 'no step is needed']]),
      {
        release: facts.release,
        isRunning: facts.isRunning,
        verdict: load.verdict,
        because: load.because,
        next,
        secureBoot: isSecureBootOn(facts.firmware),
        lockdown: facts.lockdown,
        sigEnforce: facts.sigEnforce,
        keyrings: facts.keys?.keyrings ?? null,
        signer:
          signer === null
            ? null
            : {
                subject: signer.subject,
                sha256: signer.sha256,
                keyId: signer.keyId,
                notBefore: signer.notBefore,
                notAfter: signer.notAfter,
                isEnrolled: isEnrolled(facts, signer),
                isPending: isPending(facts, signer),
              },
        checks,
      },
    );
    if (!willLoad(load)) throw new KilnError('unverified', sentence);
  },
};

const VERDICTS: Readonly<Record<LoadVerdict['verdict'], string>> = {
  loads: 'modules will load',
  taints: 'modules will load, and taint the kernel',
  refused: 'modules will be refused',
  unknown: 'it cannot be known whether modules will load',
};

const willLoad = ({ verdict }: LoadVerdict): boolean => verdict === 'loads' || verdict === 'taints';

/** The one step to take first: against what keeps modules from loading, else against what is wrong, else towards what could be better. */
const chooseStep = (load: LoadVerdict, checks: readonly Check[]): string | null => {
  const other = checks.find(({ step }) => step !== null)?.step ?? null;
  return willLoad(load) ? (other ?? load.next) : load.next;
};

export const DOCTOR_COMMANDS: readonly Command[] = [doctor];
