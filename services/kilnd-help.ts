import { API_SETTINGS } from './api/config.ts';
import { BUILDER_SETTINGS } from './builder/config.ts';
import { SIGNER_SETTINGS } from './signer/config.ts';
import { COMMON_SETTINGS, describeSettings, type SettingsShape } from './storage/settings.ts';

/** A role's settings as lines; what every role has is listed once. */
const settingLines = (shape: SettingsShape): string =>
  describeSettings(shape)
    .filter(({ name }) => shape === COMMON_SETTINGS || !Object.hasOwn(COMMON_SETTINGS, name))
    .map(({ name, words }) => `  ${name.padEnd(26)} ${words}`)
    .join('\n');

/** What `kilnd --help` says. */
export const help = (): string => `kilnd - builds, signs and serves Linux kernel modules

usage
  kilnd [--data DIR] [--listen HOST:PORT] [--quiet]
                     all of Kiln on this machine: api, builder, signer and a Redis of its own,
                     each a process that is started again if it dies
  kilnd api | builder | signer
                     one role, set by its environment alone (see compose.yaml)
  kilnd keys --data DIR
                     makes what is not there yet of the roles' keys, the signing key and Redis's users below DIR:
                     api/, builder/, signer/ and redis/ each for one role alone, public/ for all; kilnd without a role does that itself
  kilnd gc --data DIR [--dry-run]
                     removes what nobody can ask for any more or has no use for, once it is KILN_KEEP_DAYS old (what builds in
                     vain left, misses, rebuilds, what only ended tokens pushed or asked for), and blobs that no record names
                     and nobody is sending, and lists it. A running API does it by itself every KILN_COLLECT_HOURS; this is
                     for a kilnd that is stopped. With --dry-run, which changes nothing and works beside a running one, it
                     only lists what would go, and why. Blobs are in DIR unless KILN_BLOBS says where they are

  kilnd backup DIRECTORY [--data DIR]
                     writes the record as it is now, and all bytes that it names, into DIRECTORY, beside a running kilnd or not;
                     what is there from the backup before is not copied again. Keys are not in it: keep those of DIR elsewhere
  kilnd restore DIRECTORY [--data DIR]
                     puts a backup into a Kiln that has nothing yet; it is started afterwards
  kilnd move --data DIR
                     moves the record of a stopped kilnd from DIR to the empty database that KILN_DATABASE names, and its blobs to the
                     bucket if KILN_BLOBS names one; kilnd is then started with these settings

options
  --data DIR         where everything is kept          (default: /var/lib/kiln)
  --listen HOST:PORT where the API listens             (default: KILN_HOST:KILN_PORT; port 0: any free one)
  --quiet            writes nothing to standard output but the URL
  --dry-run          of gc: changes nothing
  -h, --help         this text

files in DIR
  admin.token        the admin's token, made at the first start (mode 0600)
  keys/              the keys by which the roles know each other's messages (mode 0600, each role reads its own)
  signing.pem        the signing key (mode 0600; the signer alone reads it), with its certificate signing.crt;
                     put your own pair there before the first start to sign with it
  kiln.sqlite        the record; blobs/ the bytes; redis/ the queues; builder/ unpacked trees

settings, from the environment; what “must be set” for a role is made by kilnd itself where it runs them all
every role
${settingLines(COMMON_SETTINGS)}
api
${settingLines(API_SETTINGS)}
builder
${settingLines(BUILDER_SETTINGS)}
signer
${settingLines(SIGNER_SETTINGS)}

exit status
  0 ended by SIGTERM or SIGINT, or done · 2 wrong usage or setting, or DIR is another kilnd’s at the moment ·
  3 there is no record in DIR · 5 something it needs is not there · 70 a defect
`;
