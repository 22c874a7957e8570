import { X509Certificate } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { expect, it } from '@jest/globals';
import { moduleSigner } from '../../services/core/module/module-signer.ts';
import { debianKernel } from '../machine/debian.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { sharedKiln } from '../machine/shared.ts';
import { efiSignatureList } from '../unit/certificates.ts';

const kiln = sharedKiln();

/** Debian under Secure Boot with the signer as a machine owner key, and the kernel whose configuration is given. */
const machine = async (config: string): Promise<string> => {
  const signer = new X509Certificate(await readFile(join(kiln.data, 'signing.crt')));
  const root = await freshDirectory('mok');
  const efivar = (value: Buffer): Buffer => Buffer.concat([Buffer.from([6, 0, 0, 0]), value]);
  const variables = 'sys/firmware/efi/efivars';
  const files = {
    'etc/os-release': 'ID=debian\n',
    'proc/sys/kernel/osrelease': `${kiln.release}\n`,
    'proc/cmdline': 'root=/dev/vda\n',
    'proc/keys': `2412d9e2 I------     2 perm 1f0b0000     0     0 keyring   .builtin_trusted_keys: 1
3b375273 I------     1 perm 1f0b0000     0     0 keyring   .platform: 1
0bb9e3db I------     1 perm 1f010000     0     0 asymmetri Kiln: ${moduleSigner(signer).keyId}: X509.rsa 0 []
`,
    'sys/kernel/security/lockdown': 'none [integrity] confidentiality\n',
    'sys/module/module/parameters/sig_enforce': 'Y\n',
    [`${variables}/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c`]: efivar(Buffer.from([1])),
    [`${variables}/MokListRT-605dab50-e046-4300-abb6-3dd810dd8b23`]: efivar(
      efiSignatureList('x509', [signer.raw]),
    ),
    [`boot/config-${kiln.release}`]: config,
    [`lib/modules/${kiln.release}/modules.order`]: '',
    'usr/sbin/depmod': '#!/bin/sh\n',
  };
  for (const [path, bytes] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), bytes, { mode: 0o755 });
  }
  return root;
};

interface Diagnosis {
  readonly verdict: string;
  readonly next: string | null;
}
const diagnose = async (config: string): Promise<Diagnosis> => {
  const args = ['--root', await machine(config), '--certificate', join(kiln.data, 'signing.crt')];
  return JSON.parse((await kiln.kiln('doctor', ...args, '--json', '-q')).stdout) as Diagnosis;
};

it('doctor says that a machine owner key serves on Debian’s own kernel, and not that it does on one’s own', async () => {
  const place = join(await debianKernel(kiln.release), 'boot', `config-${kiln.release}`);
  const debian = await readFile(place, 'utf8');
  expect(await diagnose(debian)).toMatchObject({ verdict: 'loads', next: null });
  // What `make install` leaves: Kconfig's own lines are all there.
  const own = `${debian}CONFIG_BUILD_SALT=""\n`;
  expect(await diagnose(own)).toMatchObject({
    verdict: 'unknown',
    next: expect.stringMatching(/^run mokutil --trust-mok/),
  });
  const withoutMachine = own.replace(/^CONFIG_INTEGRITY_MACHINE_KEYRING=y\n/m, '');
  expect(await diagnose(withoutMachine)).toMatchObject({
    verdict: 'unknown',
    next: expect.stringMatching(/^install a module and load it/),
  });
  const withoutBoth = withoutMachine.replace(/^CONFIG_INTEGRITY_PLATFORM_KEYRING=y\n/m, '');
  expect(await diagnose(withoutBoth)).toMatchObject({
    verdict: 'refused',
    next: expect.stringMatching(/CONFIG_SYSTEM_TRUSTED_KEYS/),
  });
});
