import { beforeAll, describe, expect, it } from '@jest/globals';
import {
  NO_SIGNATURES,
  type EfiSignatures,
} from '../../services/core/secure-boot/efi-signatures.ts';
import { parseKernelConfig, type KernelConfig } from '../../services/core/kernel/kernel-config.ts';
import {
  type Firmware,
  type LoadFacts,
  isSecureBootOn,
} from '../../services/core/secure-boot/load-facts.ts';
import {
  canEnrol,
  hashSupport,
  loadVerdict,
  type LoadVerdict,
} from '../../services/core/secure-boot/load-verdict.ts';
import { moduleSigner, type ModuleSigner } from '../../services/core/module/module-signer.ts';
import { makeCertificate } from './certificates.ts';

let signer: ModuleSigner;
let authority: ModuleSigner;
beforeAll(async () => {
  const [plain, ca] = await Promise.all([
    makeCertificate('CN=Kiln'),
    makeCertificate('CN=Kiln', { isAuthority: true }),
  ]);
  signer = moduleSigner(plain);
  authority = moduleSigner(ca);
});

/** As Debian configures its kernels. */
const DEBIAN = `CONFIG_MODULE_SIG=y
CONFIG_MODULE_SIG_HASH="sha256"
CONFIG_CRYPTO_SHA256=y
CONFIG_CRYPTO_SHA512=m
CONFIG_LOCK_DOWN_IN_EFI_SECURE_BOOT=y
CONFIG_IMA_ARCH_POLICY=y
CONFIG_SECONDARY_TRUSTED_KEYRING=y
CONFIG_INTEGRITY_PLATFORM_KEYRING=y
CONFIG_INTEGRITY_MACHINE_KEYRING=y
`;
const config = (change: (text: string) => string = (text) => text): KernelConfig =>
  parseKernelConfig(change(DEBIAN));
const without = (option: string) => (text: string) =>
  text.replace(new RegExp(`^CONFIG_${option}=.*\n`, 'm'), '');

const holding = (...signers: readonly ModuleSigner[]): EfiSignatures => ({
  ...NO_SIGNATURES,
  certificates: signers.map(({ certificate }) => certificate),
});

const FIRMWARE: Firmware = {
  isEfi: true,
  hasVariables: true,
  secureBoot: true,
  isSetupMode: false,
  isShimOff: false,
  isMokTrusted: false,
  db: NO_SIGNATURES,
  mok: NO_SIGNATURES,
  pending: NO_SIGNATURES,
  revoked: NO_SIGNATURES,
};
const BIOS: Firmware = { ...FIRMWARE, isEfi: false, secureBoot: null };
const KEYRINGS = [{ name: '.builtin_trusted_keys', count: 1 }];
const OTHERS = {
  keyrings: KEYRINGS,
  keys: [{ subject: 'Debian', id: 'aa', isFromFirmware: false }],
};
const held = (each: ModuleSigner, isFromFirmware = false) => ({
  keyrings: KEYRINGS,
  keys: [{ subject: each.subject, id: each.keyId, isFromFirmware }],
});

/** Debian under Secure Boot, locked down, that does not know the signer. */
const facts = (changes: Partial<LoadFacts> = {}): LoadFacts => ({
  release: '6.1.0-56-amd64',
  isRunning: true,
  config: config(),
  distribution: ['debian'],
  firmware: FIRMWARE,
  commandLine: 'BOOT_IMAGE=/vmlinuz root=/dev/vda ro quiet',
  lockdown: 'integrity',
  sigEnforce: true,
  keys: OTHERS,
  ...changes,
});
/** Linux as it is released, without a distribution's patches. */
const plainLinux = { distribution: ['arch'] };
/** A kernel that is installed and does not run. */
const next = { isRunning: false, release: '6.1.0-57-amd64' };
const unlocked = { lockdown: 'none', sigEnforce: false } as const;

const verdict = (load: LoadVerdict): string => load.verdict;

describe('under Secure Boot a kernel', () => {
  it('refuses what it has no certificate of, and enrolment is the one step', () => {
    expect(loadVerdict(facts(), signer)).toEqual({
      verdict: 'refused',
      because:
        'kernel 6.1.0-56-amd64 is locked down (integrity), and the signer’s certificate (CN=Kiln) is in none of this machine’s keyrings',
      next: 'run kiln enroll, then reboot and choose Enroll MOK in the screen that comes up',
    });
  });

  it('refuses it until the reboot that finishes the enrolment', () => {
    const pending = { ...FIRMWARE, pending: holding(signer) };
    expect(loadVerdict(facts({ firmware: pending }), signer)).toMatchObject({
      verdict: 'refused',
      next: expect.stringMatching(/^reboot and choose Enroll MOK/),
    });
  });

  it('loads it once it is a machine owner key, or in db, where it is Debian’s', () => {
    for (const firmware of [
      { ...FIRMWARE, mok: holding(authority, signer) },
      { ...FIRMWARE, db: holding(signer) },
    ]) {
      const load = loadVerdict(facts({ firmware, keys: held(signer) }), signer);
      expect(load).toMatchObject({ verdict: 'loads', next: null });
      expect(load.because).toMatch(/takes module keys, as far as known/);
    }
  });

  it('loads what its own keyrings have the certificate of', () => {
    expect(loadVerdict(facts({ keys: held(signer) }), signer)).toMatchObject({
      verdict: 'loads',
      because: expect.stringMatching(/running kernel’s own keyrings/),
    });
  });

  it('loads what came out of a firmware that cannot be read, where that is Debian’s', () => {
    const silent = { firmware: { ...FIRMWARE, hasVariables: false }, keys: held(signer, true) };
    expect(verdict(loadVerdict(facts(silent), signer))).toBe('loads');
    expect(loadVerdict(facts({ ...silent, ...plainLinux }), signer)).toMatchObject({
      verdict: 'unknown',
      because: expect.stringMatching(/out of the firmware$/),
      next: expect.stringMatching(/^run mount -t efivarfs/),
    });
  });

  it('refuses a revoked certificate, wherever else it is', () => {
    const firmware = { ...FIRMWARE, mok: holding(signer), revoked: holding(signer) };
    expect(loadVerdict(facts({ firmware, keys: held(signer) }), signer)).toMatchObject({
      verdict: 'refused',
      because: expect.stringMatching(/revoked/),
      next: expect.stringMatching(/another signing key/),
    });
  });

  it('refuses what the firmware has and it has not taken', () => {
    const firmware = { ...FIRMWARE, mok: holding(signer) };
    expect(loadVerdict(facts({ firmware }), signer)).toMatchObject({
      verdict: 'refused',
      because: expect.stringMatching(/has not taken it/),
      next: expect.stringMatching(/^reboot through shim/),
    });
  });

  it('may or may not load it where its keys are hidden', () => {
    expect(loadVerdict(facts({ keys: null }), signer)).toMatchObject({
      verdict: 'unknown',
      because: expect.stringMatching(/shown to root alone/),
    });
  });
});

describe('Linux without a distribution’s patch', () => {
  const enrolled = (): Firmware => ({ ...FIRMWARE, mok: holding(signer) });
  const onPlain = (changes: Partial<LoadFacts>): LoadVerdict =>
    loadVerdict(facts({ ...plainLinux, keys: held(signer), ...changes }), signer);

  it('takes machine owner keys only if their owner said so', () => {
    expect(onPlain({ firmware: enrolled() })).toMatchObject({
      verdict: 'refused',
      next: expect.stringMatching(/^run mokutil --trust-mok/),
    });
    expect(verdict(onPlain({ firmware: { ...enrolled(), isMokTrusted: true } }))).toBe('loads');
  });

  it('does not take keys from db', () => {
    const firmware = { ...FIRMWARE, db: holding(signer), isMokTrusted: true };
    expect(onPlain({ firmware })).toMatchObject({
      verdict: 'refused',
      because: expect.stringMatching(/db, from which kernel .* does not take module keys$/),
      next: expect.stringMatching(/^run kiln enroll/),
    });
  });

  it('may take authorities alone', () => {
    const strict = config((text) => `${text}CONFIG_INTEGRITY_CA_MACHINE_KEYRING=y\n`);
    const trusted = { ...enrolled(), isMokTrusted: true };
    expect(onPlain({ firmware: trusted, config: strict })).toMatchObject({
      verdict: 'refused',
      next: expect.stringMatching(/CONFIG_SYSTEM_TRUSTED_KEYS/),
    });
    const known = facts({
      ...plainLinux,
      config: strict,
      firmware: { ...trusted, mok: holding(authority) },
      keys: held(authority),
    });
    expect(verdict(loadVerdict(known, authority))).toBe('loads');
  });

  it.each(['INTEGRITY_MACHINE_KEYRING', 'SECONDARY_TRUSTED_KEYRING'])(
    'needs %s for that; else the certificate must be built in, enrolled or not',
    (option) => {
      for (const firmware of [FIRMWARE, { ...enrolled(), isMokTrusted: true }]) {
        const keys = firmware === FIRMWARE ? OTHERS : held(signer);
        const lacking = { ...plainLinux, config: config(without(option)) };
        expect(canEnrol(facts(lacking), signer)).toBe(false);
        expect(onPlain({ firmware, keys, ...lacking })).toMatchObject({
          verdict: 'refused',
          next: expect.stringMatching(/CONFIG_SYSTEM_TRUSTED_KEYS/),
        });
      }
    },
  );

  it('is asked to show its configuration where that decides', () => {
    expect(onPlain({ firmware: enrolled(), config: null })).toMatchObject({
      verdict: 'unknown',
      next: expect.stringMatching(/config-6\.1\.0-56-amd64/),
    });
  });
});

describe('a kernel of one’s own on a distribution that takes MOK by a patch', () => {
  const salted = (salt: string) => config((text) => `${text}CONFIG_BUILD_SALT="${salt}"\n`);
  const signed = (signature: string) =>
    config((text) => `${text}CONFIG_BUILD_SALT=""\nCONFIG_VERSION_SIGNATURE="${signature}"\n`);
  const enrolled = (): Firmware => ({ ...FIRMWARE, mok: holding(signer) });
  const judged = (changes: Partial<LoadFacts>): LoadVerdict =>
    loadVerdict(facts({ firmware: enrolled(), keys: held(signer, true), ...changes }), signer);

  it('may or may not load what is enrolled, and it is said how to find out', () => {
    expect(
      judged({ config: salted(''), firmware: { ...enrolled(), isMokTrusted: false } }),
    ).toMatchObject({
      verdict: 'unknown',
      because: expect.stringMatching(/may or may not take module keys: it is not known to be this/),
      next: expect.stringMatching(/^run mokutil --trust-mok/),
    });
    const withoutMachine = parseKernelConfig(
      `${DEBIAN}CONFIG_BUILD_SALT=""\n`.replace(/^CONFIG_INTEGRITY_MACHINE.*\n/m, ''),
    );
    expect(judged({ config: withoutMachine })).toMatchObject({
      verdict: 'unknown',
      next: expect.stringMatching(/^install a module and load it: if modprobe says/),
    });
    // What a config was copied from says nothing.
    expect(verdict(judged({ config: salted('6.1.0-55-amd64') }))).toBe('unknown');
  });

  it('loads it where the keyring of owners is built in and trusted, patch or not', () => {
    const firmware = { ...enrolled(), isMokTrusted: true };
    expect(verdict(judged({ config: salted(''), firmware }))).toBe('loads');
  });

  it('refuses it where it has neither keyring', () => {
    const bare = parseKernelConfig(
      `${DEBIAN}CONFIG_BUILD_SALT=""\n`.replaceAll(/^CONFIG_INTEGRITY.*\n/gm, ''),
    );
    expect(judged({ config: bare })).toMatchObject({
      verdict: 'refused',
      next: expect.stringMatching(/CONFIG_SYSTEM_TRUSTED_KEYS/),
    });
  });

  it.each<[string, Partial<LoadFacts>]>([
    ['its salt is the release, as Fedora’s', { config: salted('6.1.0-56-amd64') }],
    [
      'its configuration has Ubuntu’s signature',
      { config: signed('Ubuntu 6.8.0-40.40-generic 6.8.12') },
    ],
  ])('is none where %s', (_, changes) => {
    expect(verdict(judged(changes))).toBe('loads');
  });

  it('is none where it runs and has the distribution’s own key built in', () => {
    const builtIn = { subject: 'Debian Secure Boot CA', id: 'aa', isFromFirmware: false };
    const keys = { keyrings: KEYRINGS, keys: [...held(signer, true).keys, builtIn] };
    expect(verdict(judged({ config: salted(''), keys }))).toBe('loads');
  });

  it('is not told from another by a distribution’s key that came out of the firmware', () => {
    const shims = { subject: 'Debian Secure Boot CA', id: 'aa', isFromFirmware: true };
    const keys = { keyrings: KEYRINGS, keys: [...held(signer, true).keys, shims] };
    expect(verdict(judged({ config: salted(''), keys }))).toBe('unknown');
  });
});

describe('a kernel that enforces nothing', () => {
  it('loads what it cannot verify, and is tainted', () => {
    const load = loadVerdict(facts({ ...unlocked, firmware: BIOS }), signer);
    expect(load).toMatchObject({ verdict: 'taints' });
    expect(load.because).toMatch(/marks itself as tainted/);
    expect(load.next).toBeNull();
    const pending = { ...FIRMWARE, secureBoot: false, pending: holding(signer) };
    expect(loadVerdict(facts({ ...unlocked, firmware: pending }), signer)).toMatchObject({
      verdict: 'taints',
      next: expect.stringMatching(/^reboot and choose Enroll MOK/),
    });
  });

  it.each<[string, Partial<Firmware>]>([
    ['Secure Boot is off', { secureBoot: false }],
    ['the firmware is in setup mode', { isSetupMode: true }],
    ['shim’s validation is off', { isShimOff: true }],
  ])('may be one because %s', (_, change) => {
    const firmware = { ...FIRMWARE, ...change };
    expect(isSecureBootOn(firmware)).toBe(false);
    const silent = facts({ ...next, firmware, lockdown: null, sigEnforce: null });
    expect(verdict(loadVerdict(silent, signer))).toBe('taints');
  });

  it('and checks nothing loads anything', () => {
    const unchecked = facts({ config: config(without('MODULE_SIG')) });
    expect(verdict(loadVerdict(unchecked, signer))).toBe('loads');
  });
});

describe('a kernel enforces signatures', () => {
  const free = { firmware: BIOS, ...unlocked };

  it.each<[string, Partial<LoadFacts>]>([
    ['in lockdown for confidentiality', { lockdown: 'confidentiality' }],
    ['by module.sig_enforce', { sigEnforce: true }],
  ])('when it runs %s', (_, change) => {
    expect(verdict(loadVerdict(facts({ ...free, ...change }), signer))).toBe('refused');
  });

  it.each([
    'module.sig_enforce',
    'quiet module.sig_enforce=1 ro',
    'lockdown=integrity',
    'ro lockdown=confidentiality',
    'lockdown=none module.sig-enforce=on',
  ])('when it does not run yet, but is started with %j', (commandLine) => {
    expect(verdict(loadVerdict(facts({ ...free, ...next, commandLine }), signer))).toBe('refused');
  });

  it.each(['lockdown=none', 'module.sig_enforce=0', 'notmodule.sig_enforce', ''])(
    'and not for %j',
    (commandLine) => {
      const load = loadVerdict(facts({ ...free, ...next, commandLine }), signer);
      expect(verdict(load)).toBe('taints');
    },
  );

  it.each([
    'MODULE_SIG_FORCE',
    'LOCK_DOWN_KERNEL_FORCE_INTEGRITY',
    'LOCK_DOWN_KERNEL_FORCE_CONFIDENTIALITY',
  ])('when it is built with %s', (option) => {
    const forcing = config((text) => `${text}CONFIG_${option}=y\n`);
    const load = loadVerdict(facts({ ...free, ...next, config: forcing }), signer);
    expect(verdict(load)).toBe('refused');
  });

  it.each(['LOCK_DOWN_IN_EFI_SECURE_BOOT', 'IMA_ARCH_POLICY'])(
    'under Secure Boot, when it is built with one option besides %s',
    (option) => {
      const load = loadVerdict(facts({ ...next, config: config(without(option)) }), signer);
      expect(verdict(load)).toBe('refused');
      const neither = config((text) =>
        without('IMA_ARCH_POLICY')(without('LOCK_DOWN_IN_EFI_SECURE_BOOT')(text)),
      );
      expect(verdict(loadVerdict(facts({ ...next, config: neither }), signer))).toBe('taints');
    },
  );
});

describe('a kernel that does not run', () => {
  it('takes what its machine has enrolled', () => {
    const firmware = { ...FIRMWARE, mok: holding(signer) };
    expect(verdict(loadVerdict(facts({ ...next, firmware, keys: null }), signer))).toBe('loads');
  });

  it('may or may not have the certificate built in that the running one has', () => {
    expect(verdict(loadVerdict(facts({ ...next, keys: held(signer) }), signer))).toBe('unknown');
  });

  it('below a root without firmware or configuration cannot be judged', () => {
    const nothing = { firmware: null, config: null, lockdown: null, sigEnforce: null, keys: null };
    expect(loadVerdict(facts({ ...next, ...nothing }), signer)).toMatchObject({
      verdict: 'unknown',
      next: 'run kiln doctor on the host itself, while it runs',
    });
    expect(isSecureBootOn(null)).toBeNull();
  });
});

describe('a key or digest that a kernel cannot use', () => {
  const enrolled = (): Partial<LoadFacts> => ({
    firmware: { ...FIRMWARE, mok: holding(signer) },
    keys: held(signer),
  });

  it.each<[string, Partial<ModuleSigner>]>([
    ['RSA of 8192 bits', { bits: 8192 }],
    ['an elliptic curve', { keyType: 'ec', bits: null }],
    ['Ed25519', { keyType: 'ed25519', bits: null }],
  ])('makes it refuse the module: %s', (_, change) => {
    const load = loadVerdict(facts(enrolled()), { ...signer, ...change });
    expect(load).toMatchObject({
      verdict: 'refused',
      next: expect.stringMatching(/^have the admin sign with an RSA key/),
    });
  });

  it('is a digest that it lacks', () => {
    const lacking = config(without('CRYPTO_SHA256'));
    expect(hashSupport(lacking)).toBeNull();
    expect(loadVerdict(facts({ ...enrolled(), config: lacking }), signer)).toMatchObject({
      verdict: 'refused',
      because: expect.stringMatching(/lacks sha256/),
    });
  });

  it('is not one that it has, built in or as a module', () => {
    expect(hashSupport(config())).toBe('built in');
    expect(hashSupport(config(without('MODULE_SIG_HASH')))).toBe('as a module');
  });
});
