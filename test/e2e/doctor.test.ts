import { X509Certificate } from 'node:crypto';
import { chmod, copyFile, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { clockCheck } from '../../client/installed/health.ts';
import { loadWarning } from '../../client/host/secure-boot.ts';
import { moduleSigner } from '../../services/core/module/module-signer.ts';
import { debianKernel } from '../machine/debian.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { CLIENT } from '../machine/places.ts';
import { mustRun, run, type Ran } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';
import { efiSignatureList, makeCertificate } from '../unit/certificates.ts';

const kiln = sharedKiln();
const signerFile = join(kiln.data, 'signing.crt');
let signer: X509Certificate;
beforeAll(async () => {
  signer = new X509Certificate(await readFile(signerFile));
});

const SECURE_BOOT = 'SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c';
const SHIM = '605dab50-e046-4300-abb6-3dd810dd8b23';
const DB = 'db-d719b2cb-3d3a-4596-a3bc-dad00e67656f';
const efivar = (value: Buffer): Buffer => Buffer.concat([Buffer.from([6, 0, 0, 0]), value]);
const holding = (...certificates: readonly X509Certificate[]): Buffer =>
  efivar(Buffer.concat(certificates.map(({ raw }) => efiSignatureList('x509', [raw]))));

const KEYRINGS = `2412d9e2 I------     2 perm 1f0b0000     0     0 keyring   .builtin_trusted_keys: 1
3b375273 I------     1 perm 1f0b0000     0     0 keyring   .platform: 1
`;
const keyLine = (certificate: X509Certificate): string =>
  `0bb9e3db I------     1 perm 1f010000     0     0 asymmetri Kiln: ${moduleSigner(certificate).keyId}: X509.rsa 0 []\n`;

/** Debian's kernel as it stands in a locked-down machine, with these files besides. */
const machine = async (
  files: Readonly<Record<string, string | Buffer>> = {},
): Promise<{ readonly root: string; put(path: string, bytes: string | Buffer): Promise<void> }> => {
  const root = await freshDirectory('doctor');
  const put = async (path: string, bytes: string | Buffer): Promise<void> => {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), bytes);
  };
  const all = {
    'etc/os-release': 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n',
    'usr/sbin/depmod': '#!/bin/sh\n',
    'proc/sys/kernel/osrelease': `${kiln.release}\n`,
    'proc/cmdline': 'root=/dev/vda quiet\n',
    'proc/keys': KEYRINGS,
    'sys/kernel/security/lockdown': 'none [integrity] confidentiality\n',
    'sys/module/module/parameters/sig_enforce': 'N\n',
    [`sys/firmware/efi/efivars/${SECURE_BOOT}`]: efivar(Buffer.from([1])),
    ...files,
  };
  for (const [path, bytes] of Object.entries(all)) await put(path, bytes);
  await mkdir(join(root, 'lib/modules', kiln.release, 'kernel'), { recursive: true });
  await mkdir(join(root, 'boot'));
  const config = `boot/config-${kiln.release}`;
  await copyFile(join(await debianKernel(kiln.release), config), join(root, config));
  await chmod(join(root, 'usr/sbin/depmod'), 0o755);
  return { root, put };
};

const owned = (...certificates: readonly X509Certificate[]): Readonly<Record<string, Buffer>> => ({
  [`sys/firmware/efi/efivars/MokListRT-${SHIM}`]: holding(...certificates),
});
const enrolled = (): Readonly<Record<string, string | Buffer>> => ({
  ...owned(signer),
  'proc/keys': KEYRINGS + keyLine(signer),
});

const PINNED = ['--certificate', signerFile, '-q'];
const doctor = (root: string, ...args: string[]): Promise<Ran> =>
  kiln.kiln('doctor', '--root', root, ...PINNED, ...args);

interface Diagnosis {
  readonly verdict: string;
  readonly next: string | null;
  readonly checks: readonly { readonly name: string; readonly value: string }[];
}
const diagnose = async (
  root: string,
  ...args: string[]
): Promise<Diagnosis & { readonly status: number }> => {
  const { status, stdout } = await doctor(root, '--json', ...args);
  return { ...(JSON.parse(stdout) as Diagnosis), status };
};
const valueOf = ({ checks }: Diagnosis, name: string): string | undefined =>
  checks.find((check) => check.name === name)?.value;

describe('kiln doctor', () => {
  it('says that a locked-down kernel will refuse the modules, and that enrolment is the next step', async () => {
    const { root } = await machine();
    const { status, stdout, stderr } = await doctor(root);
    expect(status).toBe(6);
    expect(stdout).toMatch(/^Secure Boot +on$/m);
    expect(stdout).toMatch(/^lockdown +integrity$/m);
    expect(stdout).toMatch(/^signatures +checked; sha256, which is built in$/m);
    expect(stdout).toMatch(/^keyrings +\.builtin_trusted_keys 1, \.platform 1$/m);
    expect(stdout).toMatch(/^pinned +what the service signs with$/m);
    expect(stdout).toMatch(/^verdict +modules will be refused: .*locked down \(integrity\)/m);
    expect(stdout).toMatch(/^next +run kiln enroll, then reboot/m);
    expect(stderr).toMatch(/modules will be refused/);
  });

  it('says that no step is needed once the certificate is enrolled, or in db', async () => {
    const { root } = await machine(enrolled());
    const { status, stdout } = await doctor(root);
    expect({ status, stdout }).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/^next +no step is needed$/m),
    });
    const db = await machine({
      [`sys/firmware/efi/efivars/${DB}`]: holding(signer),
      'proc/keys': KEYRINGS + keyLine(signer),
    });
    expect(await diagnose(db.root)).toMatchObject({ status: 0, verdict: 'loads', next: null });
  });

  it('says that a reboot finishes an enrolment', async () => {
    const { root, put } = await machine();
    await put(`sys/firmware/efi/efivars/MokNew-${SHIM}`, holding(signer));
    expect(await diagnose(root)).toMatchObject({
      status: 6,
      verdict: 'refused',
      next: expect.stringMatching(/^reboot and choose Enroll MOK/),
    });
  });

  it('finds it among what shim has parted into several variables, and in the table it leaves', async () => {
    const { root, put } = await machine({ 'proc/keys': KEYRINGS + keyLine(signer) });
    const other = await makeCertificate('CN=Another');
    await put(`sys/firmware/efi/efivars/MokListRT-${SHIM}`, holding(other));
    await put(`sys/firmware/efi/efivars/MokListRT1-${SHIM}`, holding(signer));
    expect(valueOf(await diagnose(root), 'enrolment')).toMatch(/machine owner key/);
    await put('sys/firmware/efi/mok-variables/MokListRT', efiSignatureList('x509', [other.raw]));
    await put('sys/firmware/efi/mok-variables/MokListRT1', efiSignatureList('x509', [signer.raw]));
    expect(valueOf(await diagnose(root), 'enrolment')).toMatch(/machine owner key/);
  });

  it('says that a revoked certificate is refused', async () => {
    const { root, put } = await machine(enrolled());
    await put(`sys/firmware/efi/efivars/MokListXRT-${SHIM}`, holding(signer));
    expect(await diagnose(root)).toMatchObject({ status: 6, verdict: 'refused' });
  });

  it('says that a kernel without lockdown loads the modules and is tainted', async () => {
    const { root } = await machine({
      'sys/kernel/security/lockdown': '[none] integrity confidentiality\n',
    });
    expect(await diagnose(root)).toMatchObject({ status: 0, verdict: 'taints' });
  });

  it('judges a kernel that is installed and does not run by its configuration', async () => {
    const { root, put } = await machine();
    await put('proc/sys/kernel/osrelease', '6.1.0-1-amd64\n');
    const { stdout } = await doctor(root, '-k', kiln.release);
    expect(stdout).toMatch(/^kernel +\S+, not running: what follows is from its files$/m);
    expect(stdout).toMatch(/^verdict +modules will be refused: .*under Secure Boot, which is on/m);
  });

  it('knows nothing of a root without /proc, /sys and configuration, and says so', async () => {
    const root = await freshDirectory('bare');
    await mkdir(join(root, 'lib/modules', kiln.release, 'kernel'), { recursive: true });
    const diagnosis = await diagnose(root);
    expect(diagnosis).toMatchObject({
      status: 6,
      verdict: 'unknown',
      next: 'run kiln doctor on the host itself, while it runs',
    });
    expect(valueOf(diagnosis, 'Secure Boot')).toBe('not shown: this root has no /sys');
  });

  it('is not held up or led astray by what lies there', async () => {
    const { root, put } = await machine(enrolled());
    await mustRun('rm', [join(root, 'proc/keys')]);
    await mustRun('mkfifo', [join(root, 'proc/keys')]);
    await mustRun('rm', [join(root, 'etc/os-release')]);
    await symlink('/etc/os-release', join(root, 'etc/os-release'));
    await put(`sys/firmware/efi/efivars/MokListRT-${SHIM}`, Buffer.alloc(4 * 1024 * 1024));
    await put('sys/kernel/security/lockdown', 'x'.repeat(1024 * 1024));
    expect(await diagnose(root)).toMatchObject({ status: 6, verdict: 'unknown' });
  });
});

describe('kiln doctor, where modules will load,', () => {
  const well = (): ReturnType<typeof machine> => machine(enrolled());

  it('says when the service signs with another certificate than the pinned one', async () => {
    const { root } = await machine();
    const other = await makeCertificate('CN=Another');
    await writeFile(join(root, 'other.pem'), other.toString());
    for (const [path, bytes] of Object.entries(owned(other)))
      await writeFile(join(root, path), bytes);
    await writeFile(join(root, 'proc/keys'), KEYRINGS + keyLine(other));
    const diagnosis = await diagnose(root, '--certificate', join(root, 'other.pem'));
    expect(diagnosis).toMatchObject({ status: 0, next: expect.stringMatching(/^compare that/) });
    expect(valueOf(diagnosis, 'pinned')).toMatch(/^another than the service signs with/);
  });

  it('says when the service does not answer, or does not take the token', async () => {
    const { root } = await well();
    expect(await diagnose(root, '--server', 'http://127.0.0.1:1')).toMatchObject({
      status: 0,
      next: 'see that http://127.0.0.1:1 can be reached from here',
    });
    const { stdout } = await kiln.kilnAs('kiln_client_x', 'doctor', '--root', root, ...PINNED);
    expect(stdout).toMatch(/^token +.*unknown, expired or revoked/m);
    expect(stdout).toMatch(/^next +ask an admin for a token/m);
  });

  it('says when an installation was broken off, or depmod is missing', async () => {
    const { root, put } = await well();
    await mustRun('rm', [join(root, 'usr/sbin/depmod')]);
    expect((await diagnose(root)).next).toBe('install the package kmod');
    await put('var/lib/kiln/journal.json', '{}');
    expect((await diagnose(root)).next).toBe('run kiln recover');
  });

  it('says when the clock cannot be right', async () => {
    const { root } = await machine();
    const future = await makeCertificate('CN=Kiln', { notBefore: '2035-12-01' });
    await writeFile(join(root, 'future.pem'), future.toString());
    const diagnosis = await diagnose(root, '--certificate', join(root, 'future.pem'));
    expect(valueOf(diagnosis, 'clock')).toMatch(/looks wrong, the signer is not valid yet/);
    expect(clockCheck(Date.parse('2000-01-01'), Date.parse('2026-01-01'), null)).toMatchObject({
      value: expect.stringMatching(/^2000-01-01T.*looks wrong, the client was made long after$/),
      step: expect.stringMatching(/^set this host’s clock/),
    });
  });

  it('names the hooks and tools that it finds', async () => {
    const { root, put } = await well();
    await put('etc/kernel/postinst.d/70-kiln', '#!/bin/sh\n');
    await put('usr/sbin/update-initramfs', '#!/bin/sh\n');
    await chmod(join(root, 'usr/sbin/update-initramfs'), 0o755);
    const diagnosis = await diagnose(root);
    expect(valueOf(diagnosis, 'hooks')).toBe('/etc/kernel/postinst.d');
    expect(valueOf(diagnosis, 'initramfs')).toBe('/usr/sbin/update-initramfs');
  });
});

describe('the warning before an installation', () => {
  it('is one sentence where the kernel will refuse the module, and nothing where it will not', async () => {
    const { root, put } = await machine();
    const warning = (release = kiln.release): Promise<string | null> =>
      loadWarning({ root, runsPrograms: false }, release, signer);
    expect(await warning()).toMatch(
      /^kernel \S+ will refuse the module: .* keyrings; run kiln enroll, then reboot/,
    );
    expect(await warning('6.1.0-1-amd64')).toBeNull();
    await put('sys/kernel/security/lockdown', '[none] integrity confidentiality\n');
    expect(await warning()).toBeNull();
    expect(
      await loadWarning(
        { root: (await machine(enrolled())).root, runsPrograms: false },
        kiln.release,
        signer,
      ),
    ).toBe(null);
  });
});

describe('kiln enroll', () => {
  const enroll = (root: string, ...args: string[]): Promise<Ran> =>
    kiln.kiln('enroll', '--root', root, ...PINNED, ...args);

  it('says with --check how far it is', async () => {
    const { root, put } = await machine();
    expect(await enroll(root, '--check')).toMatchObject({
      status: 6,
      stdout: expect.stringMatching(/^not enrolled$/m),
    });
    await put(`sys/firmware/efi/efivars/MokNew-${SHIM}`, holding(signer));
    expect(await enroll(root, '--check')).toMatchObject({
      status: 6,
      stdout: expect.stringMatching(/^waits for a reboot$/m),
    });
    const done = await machine(enrolled());
    expect(await enroll(done.root, '--check')).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/^enrolled as a machine owner key$/m),
    });
  });

  it('does nothing where the certificate is enrolled', async () => {
    const { root } = await machine(enrolled());
    expect(await enroll(root)).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/nothing was done/),
    });
  });

  it('is for the machine that runs, and one that EFI started', async () => {
    const { root } = await machine();
    expect(await enroll(root)).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/run kiln enroll there, without --root/),
    });
    expect(await onFirmware(':')).toMatchObject({
      status: 7,
      stderr: expect.stringMatching(/was not started by EFI/),
    });
  });

  /** Runs the client where /sys/firmware is an empty directory that `prepare` may put variables in. */
  const onFirmware = (prepare: string, ...args: string[]): Promise<Ran> =>
    run(
      'unshare',
      [
        '--mount',
        'sh',
        '-ec',
        `mount -t tmpfs firmware /sys/firmware; ${prepare}; exec "$@"`,
        'sh',
        CLIENT,
        'enroll',
        ...PINNED,
        ...args,
      ],
      {
        env: {
          ...process.env,
          KILN_CONFIG: join(kiln.data, 'no.config'),
          EFIVARFS_PATH: '/sys/firmware/efi/efivars/',
        },
      },
    );
  /**
   * The variables of a machine in Secure Boot, kept in a directory where the next run finds them; and Debian's configuration for the
   * kernel that runs, without the lines that `strip` matches.
   */
  const variables = async (strip = '^$'): Promise<string> => {
    const directory = await freshDirectory('efivars');
    await writeFile(join(directory, SECURE_BOOT), efivar(Buffer.from([1])));
    const config = join(await debianKernel(kiln.release), 'boot', `config-${kiln.release}`);
    return [
      'mkdir -p /sys/firmware/efi/efivars',
      `mount --bind ${directory} /sys/firmware/efi/efivars`,
      'mount -t tmpfs boot /boot',
      `grep -Ev '${strip}' ${config} >"/boot/config-$(uname -r)"`,
    ].join('; ');
  };

  it('has mokutil make the request, once, and explains the screen that comes up', async () => {
    const directory = await freshDirectory('password');
    const password = join(directory, 'password');
    await writeFile(password, 'correct horse\n', { mode: 0o600 });
    const firmware = await variables();
    const asked = await onFirmware(firmware, '--password-file', password);
    expect(asked).toMatchObject({ status: 0, stderr: '' });
    expect(asked.stdout).toMatch(/the request is made\n\nNow reboot/);
    expect(asked.stdout).toMatch(/Enroll MOK/);
    expect(await onFirmware(firmware, '--check')).toMatchObject({
      status: 6,
      stdout: expect.stringMatching(/^waits for a reboot$/m),
    });
    expect(await onFirmware(firmware, '--password-file', password)).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/waits for a reboot; nothing was done/),
    });
  });

  it('asks for nothing where the kernel would not take the key from there', async () => {
    const firmware = await variables('_(PLATFORM|MACHINE)_KEYRING');
    expect(await onFirmware(firmware)).toMatchObject({
      status: 7,
      stderr: expect.stringMatching(/so enrolling would not help; give this host a kernel/),
    });
  });

  it('takes no password that mokutil could not take', async () => {
    const directory = await freshDirectory('password');
    const password = join(directory, 'password');
    const firmware = await variables();
    for (const text of ['', '\n', 'two\nlines\n', 'x'.repeat(300)]) {
      await writeFile(password, text);
      expect(await onFirmware(firmware, '--password-file', password)).toMatchObject({
        status: 2,
        stderr: expect.stringMatching(/must hold one line, the password/),
      });
    }
    expect(await onFirmware(firmware, '--password-file', join(directory, 'none'))).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/cannot be read/),
    });
  });
});
