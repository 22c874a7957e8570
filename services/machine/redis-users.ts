import { createHash, randomBytes } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readIfThere, writeSecret } from './write-secret.ts';

/** The Redis keys that each role's user may use (with compose.yaml's prefix): those of its own queue, and of the messages that it sends. */
const USERS = {
  api: [
    '~kiln:builder:*',
    '~kiln:signer:*',
    '~kiln:outcomes:*',
    '~kiln:log:*',
    '~kiln:cancel:*',
    '%R~kiln:slots',
    '&kiln:changed',
    '&kiln:cancelled',
  ],
  builder: [
    '~kiln:builder:*',
    '~kiln:outcomes:*',
    '%W~kiln:log:*',
    '%R~kiln:cancel:*',
    '%W~kiln:slots',
    '&kiln:changed',
    '&kiln:cancelled',
  ],
  signer: ['~kiln:signer:*', '~kiln:outcomes:*'],
} as const;

/** The commands that BullMQ's scripts and the signals call. None of them lists keys or manages the server. */
const COMMANDS = `
  +@hash +@list +@set +@sortedset +@stream +@string +del +unlink +exists +type +expire +pexpire +persist +rename +time
  +eval +evalsha +multi +exec +publish +subscribe +unsubscribe +ping +hello +auth +client|setname`;

/**
 * Makes a password for each role's user of Redis below a directory of keys (see `make-keys.ts`), if it is not there, and the list of
 * users for `redis-server --aclfile`. It has the passwords' hashes alone; nobody else gets in.
 */
export const makeRedisUsers = async (directory: string): Promise<void> => {
  const lines = ['user default off'];
  for (const [role, places] of Object.entries(USERS)) {
    const file = join(directory, role, 'redis.password');
    const known = await readIfThere(file);
    const password = known ?? randomBytes(32).toString('hex');
    if (known === null) await writeSecret(file, password);
    const hash = createHash('sha256').update(password).digest('hex');
    // INFO is among the dangerous ones, and BullMQ asks it for the server's version.
    const commands = ['-@all', ...COMMANDS.trim().split(/\s+/), '-@dangerous', '-@admin', '+info'];
    lines.push(
      ['user', role, 'on', `#${hash}`, 'resetkeys', 'resetchannels', ...places, ...commands].join(
        ' ',
      ),
    );
  }
  await mkdir(join(directory, 'redis'), { recursive: true, mode: 0o700 });
  await writeFile(join(directory, 'redis/users.acl'), `${lines.join('\n')}\n`, { mode: 0o600 });
};
