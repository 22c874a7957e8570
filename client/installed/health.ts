import { X509Certificate } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { KilnError } from '../../services/core/errors.ts';
import { signatureHashOf } from '../../services/core/kernel/kernel-config.ts';
import {
  type LoadFacts,
  isSecureBootOn,
  isEnrolled,
  isPending,
  heldKey,
} from '../../services/core/secure-boot/load-facts.ts';
import { hashSupport } from '../../services/core/secure-boot/load-verdict.ts';
import type { ModuleSigner } from '../../services/core/module/module-signer.ts';
import { isOnHost, namesOnHost } from '../host/host-files.ts';
import { isBeingChanged } from '../host/lock.ts';
import { modulesRefused } from '../host/writable.ts';
import { findProgram } from '../host/programs.ts';
import type { Host } from '../host/host.ts';
import type { Service } from '../wire/service.ts';
import { certificateId } from './verify.ts';

/** The result of one check: its value and, where that is not good, the step to take. */
export interface Check {
  readonly name: string;
  readonly value: string;
  readonly step: string | null;
}

const fine = (name: string, value: string): Check => ({ name, value, step: null });
const YEAR = 365 * 24 * 3600 * 1000;

/** Checks of what a kernel and its firmware do about module signatures. */
export const kernelChecks = (facts: LoadFacts): readonly Check[] => {
  const { firmware, config, keys } = facts;
  const running = facts.isRunning ? 'running' : 'not running: what follows is from its files';
  return [
    fine('kernel', `${facts.release}, ${running}`),
    fine('Secure Boot', describeSecureBoot(facts)),
    fine('lockdown', facts.lockdown ?? 'not shown'),
    fine('sig_enforce', facts.sigEnforce === null ? 'not shown' : onOff(facts.sigEnforce)),
    fine('signatures', config === null ? 'no configuration in /boot' : describePolicy(config)),
    fine(
      'keyrings',
      keys === null
        ? 'not shown (root alone sees them, on the host itself)'
        : keys.keyrings.map(({ name, count }) => `${name} ${count}`).join(', '),
    ),
    fine('mok', firmware === null ? 'not shown' : describeOwnerKeys(firmware)),
  ];
};

const onOff = (is: boolean): string => (is ? 'on' : 'off');

const describeSecureBoot = ({ firmware }: LoadFacts): string => {
  if (firmware === null) return 'not shown: this root has no /sys';
  if (!firmware.isEfi) return 'off: no EFI';
  if (firmware.isSetupMode) return 'off: the firmware is in setup mode';
  if (firmware.isShimOff) return 'off: shim’s validation is switched off';
  const is = isSecureBootOn(firmware);
  return is === null ? 'not shown' : onOff(is);
};

const describePolicy = (config: NonNullable<LoadFacts['config']>): string => {
  if (config.get('MODULE_SIG') !== 'y') return 'not checked (CONFIG_MODULE_SIG is off)';
  const hash = signatureHashOf(config);
  const force = config.get('MODULE_SIG_FORCE') === 'y' ? 'enforced' : 'checked';
  return `${force}; ${hash}, which is ${hashSupport(config) ?? 'missing'}`;
};

const describeOwnerKeys = ({
  isEfi,
  hasVariables,
  mok,
  db,
  pending,
}: NonNullable<LoadFacts['firmware']>): string => {
  if (isEfi && !hasVariables) return 'not shown: efivarfs is not mounted';
  const waiting = pending.certificates.length;
  const isWhole = mok.isWhole && db.isWhole && pending.isWhole;
  return [
    `${mok.certificates.length} enrolled, ${db.certificates.length} in db`,
    ...(waiting === 0 ? [] : [`${waiting} waiting for a reboot`]),
    ...(isWhole ? [] : ['not all of it can be read']),
  ].join(', ');
};

/** Checks of the signer that modules must come from, and of where this machine has its certificate. */
export const signerChecks = (facts: LoadFacts, signer: ModuleSigner): readonly Check[] => [
  fine('signer', `${signer.subject}, SHA-256 ${signer.sha256}`),
  fine('key', `${describeKey(signer)}, ${signer.keyId}`),
  fine('enrolment', describeEnrolment(facts, signer)),
];

const describeKey = ({ keyType, bits }: ModuleSigner): string =>
  bits === null ? keyType : `${keyType} ${bits}`;

const describeEnrolment = (facts: LoadFacts, signer: ModuleSigner): string => {
  if (isEnrolled(facts, signer)) return 'enrolled as a machine owner key';
  if (isPending(facts, signer)) return 'waits for a reboot and MokManager';
  if (facts.firmware?.db.certificates.some((each) => each.equals(signer.certificate)) === true)
    return 'in the firmware’s db';
  const held = heldKey(facts, signer);
  if (held === null) return 'not enrolled';
  return held.isFromFirmware
    ? 'in the running kernel’s keyrings, out of the firmware'
    : 'in the running kernel’s own keyrings';
};

/**
 * Checks that the clock can be right: it is not before the signer's certificate, nor a year before the client itself was made. `now` and
 * `made` are milliseconds since 1970. An expired certificate is mentioned, but kernels do not mind it.
 */
export const clockCheck = (now: number, made: number, signer: ModuleSigner | null): Check => {
  const value = new Date(now).toISOString();
  const step = 'set this host’s clock (timedatectl set-ntp true)';
  if (now < made - YEAR)
    return { name: 'clock', value: `${value}: looks wrong, the client was made long after`, step };
  if (signer !== null && now < signer.notBefore)
    return { name: 'clock', value: `${value}: looks wrong, the signer is not valid yet`, step };
  if (signer !== null && now > signer.notAfter)
    return fine('clock', `${value}: the signer has expired, which kernels do not mind`);
  return fine('clock', value);
};

/** When the client that runs was made: its file's time. */
export const clientMade = async (): Promise<number> =>
  stat(process.execPath).then(
    ({ mtimeMs }) => mtimeMs,
    () => 0,
  );

/** Checks of the service, and the certificate that it says it signs with now. */
export interface ServiceHealth {
  readonly checks: readonly Check[];
  readonly certificate: X509Certificate | null;
}

const ANSWER_WITHIN = 10_000;

/** Asks the service for its signers, and compares with the pinned certificate. Gives up after ten seconds. */
export const serviceHealth = async (
  server: string,
  service: Service,
  pinned: X509Certificate | null,
): Promise<ServiceHealth> => {
  try {
    const [newest] = await Promise.race([service.signers(), silence(server)]);
    if (newest === undefined) {
      const step = 'have the admin start the service’s signer';
      const check = { name: 'server', value: `${server} answers; it has no signer yet`, step };
      return { checks: [check], certificate: null };
    }
    const certificate = new X509Certificate(newest.certificate);
    return {
      checks: [
        fine('server', `${server} answers`),
        fine('token', 'works'),
        compareSigners(certificate, pinned),
      ],
      certificate,
    };
  } catch (error) {
    return { checks: [describeFailure(server, error)], certificate: null };
  }
};

const silence = (server: string): Promise<never> =>
  new Promise((_, reject) => {
    setTimeout(
      () => reject(new KilnError('unreachable', `${server} does not answer within ten seconds`)),
      ANSWER_WITHIN,
    ).unref();
  });

const compareSigners = (current: X509Certificate, pinned: X509Certificate | null): Check => {
  const name = 'pinned';
  const step = `compare that SHA-256 with what the admin tells you, then run kiln setup URL --fingerprint SHA256${pinned === null ? '' : ' --replace-certificate'}`;
  const id = certificateId(current);
  if (pinned === null)
    return { name, value: `nothing; the service signs with SHA-256 ${id}`, step };
  if (certificateId(pinned) === id) return fine(name, 'what the service signs with');
  return { name, value: `another than the service signs with, SHA-256 ${id}`, step };
};

const describeFailure = (server: string, error: unknown): Check => {
  if (!(error instanceof KilnError))
    return {
      name: 'server',
      value: `${server} answers with what is no certificate`,
      step: 'see that the address is that of a Kiln (kiln setup URL)',
    };
  if (error.code === 'unauthenticated' || error.code === 'forbidden')
    return {
      name: 'token',
      value: error.message,
      step: 'ask an admin for a token, then run kiln setup URL --token-file FILE',
    };
  return {
    name: 'server',
    value: error.message,
    step: `see that ${server} can be reached from here`,
  };
};

/** Checks that a kernel's modules can be changed. */
export const modulesCheck = async (host: Host, release: string): Promise<Check> => {
  const refused = await modulesRefused(host, release);
  if (refused === null) return fine('modules', `/lib/modules/${release} can be written`);
  return { name: 'modules', value: refused, step: refused };
};

/** Checks of the programs and hooks that an installation uses, and of whether one was interrupted. */
export const hostChecks = async (host: Host): Promise<readonly Check[]> => {
  const depmod = await findProgram(host, 'depmod');
  const isBrokenOff =
    (await isOnHost(host, 'var/lib/kiln/journal.json')) && !(await isBeingChanged(host));
  return [
    isBrokenOff
      ? { name: 'journal', value: 'an installation is unfinished', step: 'run kiln recover' }
      : fine('journal', 'no installation is unfinished'),
    depmod === null
      ? { name: 'depmod', value: 'missing', step: 'install the package kmod' }
      : fine('depmod', depmod),
    fine('initramfs', (await findProgram(host, 'update-initramfs', 'dracut')) ?? 'no tool'),
    fine('mokutil', (await findProgram(host, 'mokutil')) ?? 'missing'),
    fine('hooks', (await installedHooks(host)).join(', ') || 'none: new kernels are not followed'),
  ];
};

const HOOK_DIRECTORIES = [
  'etc/kernel/postinst.d',
  'etc/kernel/header_postinst.d',
  'etc/kernel/prerm.d',
  'etc/kernel/postrm.d',
  'usr/lib/kernel/install.d',
  'usr/lib/systemd/system',
];

const installedHooks = async (host: Host): Promise<readonly string[]> => {
  const found: string[] = [];
  for (const directory of HOOK_DIRECTORIES) {
    const names = await namesOnHost(host, directory);
    if (names.some((name) => name.includes('kiln'))) found.push(`/${directory}`);
  }
  return found;
};
