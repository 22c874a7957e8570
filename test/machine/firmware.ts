import { chmod, copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { mustRun } from './run.ts';

/** ovmf's firmware with Secure Boot on, whose one trusted key was made public for such tests. */
const CODE = '/usr/share/OVMF/OVMF_CODE_4M.snakeoil.fd';
const VARIABLES = '/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd';

/** The certificate that the firmware trusts (its db), and so the kernel. */
export const FIRMWARE_CERTIFICATE = '/usr/share/ovmf/PkKek-1-snakeoil.pem';

/** Writes that certificate's key to a file, readable by its owner alone. */
export const writeFirmwareKey = async (file: string): Promise<void> => {
  await mustRun('openssl', [
    'rsa',
    '-in',
    '/usr/share/ovmf/PkKek-1-snakeoil.key',
    '-passin',
    'pass:snakeoil',
    '-out',
    file,
  ]);
  await chmod(file, 0o600);
};

/** Signs a kernel for the firmware, beside the signatures that it has. */
export const signForFirmware = async (
  key: string,
  kernel: string,
  output: string,
): Promise<void> => {
  await mustRun('sbsign', [
    '--key',
    key,
    '--cert',
    FIRMWARE_CERTIFICATE,
    '--output',
    output,
    kernel,
  ]);
};

/** qemu's arguments for a machine with that firmware; its variables are a fresh copy in `directory`. */
export const firmwareArguments = async (directory: string): Promise<readonly string[]> => {
  const variables = join(directory, 'variables.fd');
  await copyFile(VARIABLES, variables);
  return [
    '-machine',
    'q35,smm=on,sata=off',
    '-global',
    'driver=cfi.pflash01,property=secure,value=on',
    '-drive',
    `if=pflash,unit=0,format=raw,readonly=on,file=${CODE}`,
    '-drive',
    `if=pflash,unit=1,format=raw,file=${variables}`,
  ];
};
