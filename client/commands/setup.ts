import { X509Certificate } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { hasErrno, KilnError } from '../../services/core/errors.ts';
import { onlyArgument, type Command, type Context } from '../command.ts';
import { configPath, fileSettings, readToken } from '../config.ts';
import { forEverybody } from '../host/umask.ts';
import { connect } from '../wire/http.ts';
import { openService, type Service } from '../wire/service.ts';
import { writeWhole } from '../transaction/whole-file.ts';
import { certificateId } from '../installed/verify.ts';

const setup: Command = {
  name: 'setup',
  args: 'URL',
  summary: 'write this host’s configuration and pin the service’s certificate',
  help: `Checks the connection, then writes /etc/kiln/config and /etc/kiln/signer.pem. Whoever holds the key of that certificate decides
what this host loads into its kernel. So it is pinned where its SHA-256 is the one that you give, got from the admin (on the
service's machine: kiln signer list); on a terminal you are shown it and asked. What was pinned is never replaced by itself.

      --token-file FILE    where this host's token lies
      --fingerprint SHA256 pin the certificate with this SHA-256, and no other
      --trust-first-use    pin whatever the service shows, unseen: for tests, and networks that you trust
      --replace-certificate  in the place of another one that is pinned
      --certificate FILE   pin this one, got on another way
      --ca FILE            trust these CAs for https; what else the configuration says stays`,
  options: {
    fingerprint: { type: 'string' },
    'trust-first-use': { type: 'boolean' },
    'replace-certificate': { type: 'boolean' },
  },
  async run(context) {
    const url = onlyArgument(context, 'service URL');
    const { tokenFile, network } = context.config;
    const service = openService(connect(url, readToken(tokenFile), network), context.patience);
    const settings = new Map(fileSettings());
    const directory = dirname(configPath());
    const pinned = join(directory, 'signer.pem');
    const before = await readPinned(settings.get('certificate') ?? pinned);
    const certificate = await chooseCertificate(context, service, before);
    await forEverybody(() => mkdir(directory, { recursive: true }));
    await writeWhole(pinned, Buffer.from(certificate.toString()));
    settings.set('server', url);
    if (tokenFile !== null) settings.set('token-file', resolve(tokenFile));
    settings.set('certificate', pinned);
    if (network.ca !== null) settings.set('ca', resolve(network.ca));
    const lines = [...settings].map(([key, value]) => `${key} = ${value}\n`);
    // The file is private where it holds a proxy's password.
    const mode = settings.get('proxy')?.includes('@') === true ? 0o600 : 0o644;
    await writeWhole(configPath(), Buffer.from(lines.join('')), mode);
    const id = certificateId(certificate);
    context.print(
      `wrote ${configPath()}\npinned ${pinned}: ${certificate.subject}, SHA-256 ${id}`,
      { config: configPath(), certificate: pinned, sha256: id },
    );
  },
};

/** The certificate that is pinned already, or `null`. Throws `bad-request` where that file holds none. */
const readPinned = async (file: string): Promise<X509Certificate | null> => {
  try {
    return new X509Certificate(await readFile(file));
  } catch (cause) {
    if (hasErrno(cause, 'ENOENT')) return null;
    throw new KilnError(
      'bad-request',
      `${file} should be the certificate that is pinned, and cannot be read; remove it to pin one anew`,
      { cause },
    );
  }
};

/** The certificate to pin, which a person has confirmed. Throws `unverified` or `conflict`, with what to do. */
const chooseCertificate = async (
  context: Context,
  service: Pick<Service, 'signers'>,
  before: X509Certificate | null,
): Promise<X509Certificate> => {
  const file = context.option('certificate');
  const wanted = fingerprintIn(context);
  const pems =
    file === undefined
      ? (await service.signers()).map(({ certificate }) => certificate)
      : [await readGiven(file)];
  const [newest, ...others] = pems.map((pem) => new X509Certificate(pem));
  if (newest === undefined)
    throw new KilnError(
      'unavailable',
      'the service has no signer yet; start kilnd’s signer, then try again',
    );
  const offered = [newest, ...others].find((each) => certificateId(each) === wanted) ?? newest;
  const id = certificateId(offered);
  if (wanted !== null && id !== wanted)
    throw new KilnError(
      'unverified',
      `the certificate has SHA-256 ${id}, not ${wanted}: this is another service than you mean, or somebody stands between; nothing was pinned. Ask the admin (kiln signer list)`,
    );
  if (before !== null && certificateId(before) === id) return offered;
  if (before !== null && !context.flag('replace-certificate'))
    throw new KilnError(
      'conflict',
      `another certificate is pinned, with SHA-256 ${certificateId(before)}, than this one with ${id}; nothing was changed. If the admin says that the key is new, add --replace-certificate --fingerprint and what the admin reads out`,
    );
  const isVouchedFor = wanted !== null || file !== undefined || context.flag('trust-first-use');
  if (isVouchedFor || (await isConfirmed(context, id))) return offered;
  throw new KilnError(
    'unverified',
    `the service shows a certificate with SHA-256 ${id}; nothing was pinned. Compare that with what the admin sees (on the service’s machine: kiln signer list), then add --fingerprint ${id}; --trust-first-use takes it unseen`,
  );
};

/** The SHA-256 that was given, as `openssl x509 -fingerprint` or `kiln signer list` write it; `null` where none was. */
const fingerprintIn = (context: Context): string | null => {
  const given = context.option('fingerprint');
  if (given === undefined) return null;
  const plain = given
    .toLowerCase()
    .replace(/^sha256:/, '')
    .replaceAll(':', '');
  if (/^[0-9a-f]{64}$/.test(plain)) return plain;
  throw new KilnError('bad-request', '--fingerprint takes a SHA-256: 64 hex digits');
};

const readGiven = (file: string): Promise<string> =>
  readFile(file, 'utf8').catch((cause: unknown) => {
    throw new KilnError('bad-request', `the certificate ${file} cannot be read`, { cause });
  });

/** Asks the person at the terminal. `false` where there is none, and for any answer but yes: the end of input, too. */
const isConfirmed = async (context: Context, id: string): Promise<boolean> => {
  if (!process.stdin.isTTY || !process.stderr.isTTY) return false;
  context.progress.done();
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  // While a question is open, readline gets ^C in the place of the process.
  terminal.once('SIGINT', () => process.kill(process.pid, 'SIGINT'));
  try {
    const answer = await terminal.question(
      `The service signs with the certificate of SHA-256\n  ${id}\nThe admin sees the same with kiln signer list on the service’s machine. Is it the same? (yes/no) `,
      { signal: context.signal },
    );
    return answer.trim().toLowerCase() === 'yes';
  } catch (error) {
    context.signal.throwIfAborted();
    if (error instanceof Error && error.name === 'AbortError') return false;
    throw error;
  } finally {
    terminal.close();
  }
};

export const SETUP_COMMANDS: readonly Command[] = [setup];
