import { createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { KilnError } from '../core/errors.ts';
import { makeRepositoryKey, publicKeyOf, readRepositoryKey } from '../storage/openpgp.ts';
import { makeSigningKey } from './make-signing-key.ts';
import { readIfThere, writeSecret } from './write-secret.ts';

/** The places of a Kiln's keys: each role's own folder holds what only that role may read, `public/` what all may. */
export interface KeyPlaces {
  readonly signingKey: string;
  readonly signingCertificate: string;
  /** The key of package repositories (OpenPGP), and its public half. */
  readonly repositoryKey: string;
  readonly repositoryPublicKey: string;
  /** A role's private key. */
  privateKey(role: KeyedRole): string;
  /** The public keys of those in a role: more builders are added by appending theirs, and taken out by removing them. */
  publicKeys(role: KeyedRole): string;
}

const KEYED_ROLES = ['api', 'builder', 'signer'] as const;
type KeyedRole = (typeof KEYED_ROLES)[number];

/** Keys below one directory, the signing key with its certificate where it is told. */
export const keyPlaces = (
  directory: string,
  signing?: { key: string; certificate: string },
): KeyPlaces => ({
  signingKey: signing?.key ?? join(directory, 'signer/signing.pem'),
  signingCertificate: signing?.certificate ?? join(directory, 'public/signing.crt'),
  repositoryKey: join(directory, 'signer/repository.asc'),
  repositoryPublicKey: join(directory, 'public/repository.asc'),
  privateKey: (role) => join(directory, role, 'key.pem'),
  publicKeys: (role) => join(directory, 'public', `${role}.pub`),
});

/** Makes what is not there yet of a Kiln's keys below a directory; what is there stays. */
export const makeKeys = async (directory: string, places: KeyPlaces): Promise<void> => {
  await mkdir(join(directory, 'public'), { recursive: true, mode: 0o755 });
  for (const role of KEYED_ROLES) {
    await mkdir(join(directory, role), { recursive: true });
    await chmod(join(directory, role), 0o700);
    const pem =
      (await readIfThere(places.privateKey(role))) ?? (await makeRoleKey(places.privateKey(role)));
    const publicKey = createPublicKey(createPrivateKey(pem));
    const own = publicKey.export({ type: 'spki', format: 'pem' }).toString();
    // There is one API and one signer, so a new key replaces the old one. Builders may be many: theirs is added.
    const known = role === 'builder' ? ((await readIfThere(places.publicKeys(role))) ?? '') : '';
    if (!known.includes(own))
      await writeFile(places.publicKeys(role), `${known}${own}`, { mode: 0o644 });
  }
  await makeRepositoryKeys(places);
  if ((await readIfThere(places.signingKey)) === null)
    await makeSigningKey(places.signingKey, places.signingCertificate);
  else if ((await readIfThere(places.signingCertificate)) === null)
    throw new KilnError(
      'bad-request',
      `the signing key’s certificate ${places.signingCertificate} is missing; put it back, or remove the key too for a new pair`,
    );
};

const makeRepositoryKeys = async ({
  repositoryKey,
  repositoryPublicKey,
}: KeyPlaces): Promise<void> => {
  const known = await readIfThere(repositoryKey);
  if (known === null) await writeSecret(repositoryKey, (await makeRepositoryKey()).privateKey);
  const armored = known ?? (await readIfThere(repositoryKey));
  if (armored === null || (known !== null && (await readIfThere(repositoryPublicKey)) !== null))
    return;
  const publicKey = publicKeyOf(await readRepositoryKey(armored));
  await writeFile(repositoryPublicKey, publicKey, { mode: 0o644 });
};

const makeRoleKey = async (file: string): Promise<string> => {
  const { privateKey } = generateKeyPairSync('ed25519');
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  await writeSecret(file, pem);
  return pem;
};
