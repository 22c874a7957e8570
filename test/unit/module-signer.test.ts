import { createHash } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';
import { moduleSigner } from '../../services/core/module/module-signer.ts';
import { makeCertificate } from './certificates.ts';

describe('a signer', () => {
  it('is called by its subject key identifier, as a kernel calls it', async () => {
    const certificate = await makeCertificate('CN=Kiln, O=Fleet');
    const key = certificate.publicKey.export({ type: 'pkcs1', format: 'der' });
    const signer = moduleSigner(certificate);
    // RFC 5280, 4.2.1.2: the SHA-1 of the key's bits.
    expect(signer.keyId).toBe(createHash('sha1').update(key).digest('hex'));
    expect(signer).toMatchObject({
      subject: 'CN=Kiln, O=Fleet',
      serial: '1234',
      sha256: createHash('sha256').update(certificate.raw).digest('hex'),
      isAuthority: false,
      keyType: 'rsa',
      bits: 2048,
      notBefore: Date.parse('2026-01-01'),
      notAfter: Date.parse('2036-01-01'),
    });
  });

  it('without one is called by its serial number', async () => {
    const certificate = await makeCertificate('CN=Kiln', { hasKeyId: false, serial: '5abc' });
    expect(moduleSigner(certificate).keyId).toBe('5abc');
  });

  it('may be an authority', async () => {
    const certificate = await makeCertificate('CN=Kiln', { isAuthority: true });
    expect(moduleSigner(certificate).isAuthority).toBe(true);
  });
});
