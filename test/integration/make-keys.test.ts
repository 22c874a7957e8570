import { readFile, rm, stat } from 'node:fs/promises';
import { describe, expect, it } from '@jest/globals';
import { keyPlaces, makeKeys } from '../../services/machine/make-keys.ts';
import { readIdentity, readSenders } from '../../services/storage/identity.ts';
import { freshDirectory } from '../machine/make-source.ts';

describe('the keys of the roles', () => {
  it('stay as they are, belong together, and each is for its owner alone', async () => {
    const directory = await freshDirectory('keys');
    const places = keyPlaces(directory);
    await makeKeys(directory, places);
    const signing = await readFile(places.signingKey);
    for (const role of ['api', 'builder', 'signer'] as const) {
      const { id } = readIdentity(places.privateKey(role));
      await makeKeys(directory, places);
      expect([...readSenders(places.publicKeys(role)).keys()]).toEqual([id]);
      expect((await stat(places.privateKey(role))).mode & 0o777).toBe(0o600);
    }
    expect(await readFile(places.signingKey)).toEqual(signing);
  });

  it('count no more once they were made anew, but for a builder’s until an admin takes it out', async () => {
    const directory = await freshDirectory('keys');
    const places = keyPlaces(directory);
    await makeKeys(directory, places);
    for (const role of ['api', 'builder', 'signer'] as const) {
      const before = readIdentity(places.privateKey(role)).id;
      await rm(places.privateKey(role));
      await makeKeys(directory, places);
      const after = readIdentity(places.privateKey(role)).id;
      expect([...readSenders(places.publicKeys(role)).keys()]).toEqual(
        role === 'builder' ? [before, after] : [after],
      );
    }
  });
});
