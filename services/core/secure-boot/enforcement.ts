import { isSecureBootOn, type LoadFacts } from './load-facts.ts';

/** The answer to a question about the kernel, with the reason; `null`: it cannot be known. */
export interface Finding {
  readonly is: boolean | null;
  readonly why: string;
}

/** Whether a kernel refuses what it cannot verify: as it says itself if it runs, else by its options and what starts it. */
export const enforcement = (facts: LoadFacts): Finding => {
  const { release, config, lockdown, sigEnforce } = facts;
  if (facts.isRunning) {
    if (lockdown === 'integrity' || lockdown === 'confidentiality')
      return { is: true, why: `kernel ${release} is locked down (${lockdown})` };
    if (sigEnforce === true)
      return { is: true, why: `kernel ${release} enforces signatures (module.sig_enforce)` };
    if (sigEnforce === false && lockdown === 'none')
      return { is: false, why: 'neither lockdown nor module.sig_enforce is on' };
  }
  const asked = ENFORCING.exec(facts.commandLine)?.[1];
  if (asked !== undefined) return { is: true, why: `the kernel command line says ${asked}` };
  if (config === null)
    return { is: null, why: `no configuration of kernel ${release} was found in /boot` };
  const forcing = FORCING.find((option) => config.get(option) === 'y');
  if (forcing !== undefined)
    return {
      is: true,
      why: `kernel ${release} is built to enforce signatures (CONFIG_${forcing})`,
    };
  const locking = LOCKING.find((option) => config.get(option) === 'y');
  const secureBoot = isSecureBootOn(facts.firmware);
  if (locking === undefined || secureBoot === false)
    return { is: false, why: `nothing makes kernel ${release} enforce signatures` };
  return secureBoot === true
    ? { is: true, why: `kernel ${release} enforces signatures under Secure Boot, which is on` }
    : { is: null, why: 'whether Secure Boot is on cannot be read' };
};

const ENFORCING =
  /(?:^|\s)(module\.sig[-_]enforce(?:=(?:[1yYtT]\w*|on))?|lockdown=(?:integrity|confidentiality))(?=\s|$)/;
const FORCING = [
  'MODULE_SIG_FORCE',
  'LOCK_DOWN_KERNEL_FORCE_INTEGRITY',
  'LOCK_DOWN_KERNEL_FORCE_CONFIDENTIALITY',
];
/** What turns enforcement on where Secure Boot is (`security/lockdown`, `security/integrity/ima`). */
const LOCKING = ['LOCK_DOWN_IN_EFI_SECURE_BOOT', 'IMA_ARCH_POLICY'];
