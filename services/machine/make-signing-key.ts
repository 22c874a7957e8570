import 'reflect-metadata';
import { createPrivateKey, randomBytes, webcrypto } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import * as x509 from '@peculiar/x509';
import { writeSecret } from './write-secret.ts';

const YEARS = 10;
/** `codeSigning`, which the kernel and shim look for in a module's signer. */
const CODE_SIGNING = '1.3.6.1.5.5.7.3.3';

/** Makes a signing key (RSA 4096) and its self-signed certificate. The certificate is written first, so that no key is ever without one. */
export const makeSigningKey = async (keyFile: string, certificateFile: string): Promise<void> => {
  const algorithm = {
    name: 'RSASSA-PKCS1-v1_5',
    hash: 'SHA-256',
    publicExponent: new Uint8Array([1, 0, 1]),
    modulusLength: 4096,
  };
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const now = new Date();
  const until = new Date(now);
  until.setFullYear(now.getFullYear() + YEARS);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned(
    {
      serialNumber: randomBytes(16).toString('hex').replace(/^./, '1'),
      name: 'CN=Kiln module signing',
      notBefore: now,
      notAfter: until,
      signingAlgorithm: algorithm,
      keys,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([CODE_SIGNING]),
        await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      ],
    },
    webcrypto,
  );
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey));
  const pem = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' }).export({
    type: 'pkcs8',
    format: 'pem',
  });
  await writeFile(certificateFile, `${certificate.toString('pem')}\n`, { mode: 0o644 });
  await writeSecret(keyFile, pem.toString());
};
