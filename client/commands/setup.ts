import { X509Certificate } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { KilnError } from '../../services/core/errors.ts';
import { onlyArgument, type Command } from '../command.ts';
import { configPath, fileSettings, readToken } from '../config.ts';
import { forEverybody } from '../host/umask.ts';
import { connect } from '../wire/http.ts';
import { openService } from '../wire/service.ts';
import { writeWhole } from '../transaction/whole-file.ts';
import { certificateId } from '../installed/verify.ts';

const setup: Command = {
  name: 'setup',
  args: 'URL',
  summary: 'write this host’s configuration and pin the service’s certificate',
  help: `Checks the connection, then writes /etc/kiln/config and /etc/kiln/signer.pem. The certificate is taken from the service
unless one is given; compare its SHA-256 with what the admin tells you.

      --token-file FILE    where this host's token lies
      --certificate FILE   pin this one, got on another way
      --ca FILE            trust these CAs for https; what else the configuration says stays`,
  options: {},
  async run(context) {
    const url = onlyArgument(context, 'service URL');
    const { tokenFile, network } = context.config;
    const given = context.option('certificate');
    const service = openService(connect(url, readToken(tokenFile), network), context.patience);
    const [newest] = await service.signers();
    const pem = given === undefined ? newest?.certificate : await readFile(given, 'utf8');
    if (pem === undefined)
      throw new KilnError(
        'unavailable',
        'the service has no signer yet; start kilnd’s signer, then try again',
      );
    const certificate = new X509Certificate(pem);
    const directory = dirname(configPath());
    const pinned = join(directory, 'signer.pem');
    await forEverybody(() => mkdir(directory, { recursive: true }));
    await writeWhole(pinned, Buffer.from(certificate.toString()));
    const settings = new Map(fileSettings());
    settings.set('server', url);
    if (tokenFile !== null) settings.set('token-file', resolve(tokenFile));
    settings.set('certificate', pinned);
    if (network.ca !== null) settings.set('ca', resolve(network.ca));
    const lines = [...settings].map(([key, value]) => `${key} = ${value}\n`);
    // A proxy's password is not for everybody's eyes.
    const mode = settings.get('proxy')?.includes('@') === true ? 0o600 : 0o644;
    await writeWhole(configPath(), Buffer.from(lines.join('')), mode);
    const id = certificateId(certificate);
    context.print(
      `wrote ${configPath()}\npinned ${pinned}: ${certificate.subject}, SHA-256 ${id}`,
      { config: configPath(), certificate: pinned, sha256: id },
    );
  },
};

export const SETUP_COMMANDS: readonly Command[] = [setup];
