import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { debianRoot } from './debian-root.ts';
import { freePort } from './faulty-network.ts';
import { freshDirectory } from './make-source.ts';
import { mustRun } from './run.ts';
import { until } from './until.ts';

/** Debian's Ceph with one of each: what most people run who have an S3 server of their own. */
export interface S3Server {
  readonly endpoint: string;
  readonly keyId: string;
  readonly secret: string;
  /**
   * Asks it as another client than Kiln does; `path` is the bucket's or object's. What it says, and the HTTP status on a line of its own.
   */
  curl(path: string, ...args: string[]): Promise<string>;
  /** Makes a bucket of that name that nobody has yet, and gives its name. */
  newBucket(): Promise<string>;
  /** Runs `radosgw-admin`. */
  admin(...args: string[]): Promise<string>;
  /** Kills what answers requests (SIGKILL). What is stored stays. */
  kill(): Promise<void>;
  /** Starts it again, with a clock that is so far ahead (`+2d`) or behind. */
  revive(shift?: string): Promise<void>;
  stop(): Promise<void>;
}

const KEY = { keyId: 'KILNTESTKEY', secret: 'kiln-test-secret-0123456789' };
/** How curl signs its requests; it leaves the bytes out of the signature. */
const AS_CLIENT = [
  '--silent',
  '--show-error',
  '--write-out',
  '\n%{http_code}',
  '--aws-sigv4',
  'aws:amz:us-east-1:s3',
  '--user',
  `${KEY.keyId}:${KEY.secret}`,
  '--header',
  'x-amz-content-sha256: UNSIGNED-PAYLOAD',
];
/** Where the server's directory is inside of its root. */
const HOME = '/var/lib/ceph';

/** Runs a program in a root that nobody changes, with a directory of its own at HOME; `$0` is the root, `$1` the directory. */
const INSIDE = `mount --bind "$1" "$0${HOME}" && mount -t proc proc "$0/proc" && root=$0 && shift && CEPH_CONF=${HOME}/ceph.conf exec chroot "$root" "$@"`;

/** What shifts a program's clock by its FAKETIME. */
const SHIFTED = [
  'LD_PRELOAD=/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1',
  'DONT_FAKE_MONOTONIC=1',
];

/** No authentication within: the gateway's own, of S3, is what is tried. */
const settings = (fsid: string, monitor: string, port: number): string => `
[global]
fsid = ${fsid}
mon host = ${monitor}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
ms bind msgr1 = false
mon data = ${HOME}/monitor
mon allow pool size one = true
paxos propose interval = 0.02
paxos min wait = 0.01
osd data = ${HOME}/store
osd objectstore = memstore
memstore device bytes = 8589934592
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd crush chooseleaf type = 0
run dir = ${HOME}
admin socket =
log file =
mon cluster log file =
log to stderr = true
[client.rgw]
auth client required = none
ms mon client mode = crc
rgw data = ${HOME}/gateway
rgw cache enabled = false
rgw frontends = beast endpoint=127.0.0.1:${port}
`;

/** Starts one with nothing in it, in some two seconds once its packages are there. It ends with the test that started it, at the latest. */
export const startS3Server = async (): Promise<S3Server> => {
  const root = await debianRoot('ceph', [
    'ceph-mon',
    'ceph-osd',
    'ceph-common',
    'radosgw',
    'libfaketime',
  ]);
  const directory = await freshDirectory('s3');
  const [monitorPort, port] = [await freePort(), await freePort()];
  const monitor = `[v2:127.0.0.1:${monitorPort}/0]`;
  const [fsid, store] = [randomUUID(), randomUUID()];
  for (const name of ['monitor', 'store', 'gateway']) await mkdir(join(directory, name));
  await writeFile(join(directory, 'ceph.conf'), settings(fsid, monitor, port));

  const inside = ['--mount', 'sh', '-c', INSIDE, root, directory];
  const runInside = (...command: string[]): Promise<string> =>
    mustRun('unshare', [...inside, ...command]);
  const start = (...command: string[]): (() => Promise<void>) => {
    const lasting = ['--pdeathsig', 'KILL', 'unshare', ...inside, ...command, '-f'];
    const child = spawn('setpriv', lasting, { stdio: ['ignore', 'ignore', 'pipe'] });
    child.stderr.pipe(createWriteStream(join(directory, 'log'), { flags: 'a' }));
    const ended = once(child, 'exit');
    return async () => {
      child.kill('SIGKILL');
      await ended;
    };
  };

  const map = `${HOME}/monitors`;
  await runInside('monmaptool', '--create', '--fsid', fsid, '--addv', 'a', monitor, map);
  await runInside('ceph-mon', '--mkfs', '-i', 'a', '--monmap', map);
  const running = [start('ceph-mon', '-i', 'a')];
  await runInside('ceph', 'osd', 'new', store);
  await runInside('ceph-osd', '-i', '0', '--mkfs', '--osd-uuid', store);
  running.push(start('ceph-osd', '-i', '0'));
  const admin = (...args: string[]): Promise<string> =>
    runInside('radosgw-admin', '-n', 'client.rgw', ...args);
  const owner = ['--uid', 'kiln', '--display-name', 'kiln'];
  await admin('user', 'create', ...owner, '--access-key', KEY.keyId, '--secret-key', KEY.secret);

  const endpoint = `http://127.0.0.1:${port}`;
  let stopGateway = async (): Promise<void> => {};
  const revive = async (shift?: string): Promise<void> => {
    const clock = shift === undefined ? [] : ['env', ...SHIFTED, `FAKETIME=${shift}`];
    stopGateway = start(...clock, 'radosgw', '-n', 'client.rgw');
    await until('the S3 server answers', () =>
      fetch(endpoint).then(
        () => true,
        () => false,
      ),
    );
  };
  await revive();
  const curl = (path: string, ...args: string[]): Promise<string> =>
    mustRun('curl', [...AS_CLIENT, ...args, `${endpoint}/${path}`]);
  return {
    endpoint,
    ...KEY,
    curl,
    async newBucket() {
      const name = `kiln-${randomUUID()}`;
      const said = await curl(name, '--request', 'PUT');
      if (said !== '\n200') throw new Error(`no bucket: ${said}`);
      return name;
    },
    admin,
    kill: () => stopGateway(),
    revive,
    async stop() {
      await stopGateway();
      for (const end of running.toReversed()) await end();
    },
  };
};
