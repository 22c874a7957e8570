import { KilnError } from '../errors.ts';

/** Checks a deb822 text (sources.list(5)): nothing unsigned may come of it. Throws `KilnError('bad-request')`. */
export const checkAptSources = (sources: string): void => {
  if (sources.trim() === '')
    throw bad('the sources are empty; give the text of a .sources file (sources.list(5), deb822)');
  for (const stanza of sources.split(/\n\s*\n/).filter((each) => each.trim() !== ''))
    checkStanza(stanza);
};

/** The fields that a stanza may have: where packages are and who signs them. Others, such as `Trusted`, could allow unsigned ones. */
const FIELDS = [
  'types',
  'uris',
  'suites',
  'components',
  'architectures',
  'signed-by',
  'check-valid-until',
];

const checkStanza = (stanza: string): void => {
  const fields = new Map<string, string>();
  let last = '';
  for (const line of stanza.split('\n')) {
    if (line.startsWith('#') || line.trim() === '') continue;
    const [, name, value = ''] = /^([^:\s]+)\s*:(.*)$/.exec(line) ?? [];
    if (name !== undefined) last = name.toLowerCase();
    else if (!/^\s/.test(line) || last === '')
      throw bad('the sources need Types, URIs and Suites in each stanza (sources.list(5), deb822)');
    fields.set(last, `${fields.get(last) ?? ''} ${name === undefined ? line : value}`.trim());
  }
  const other = [...fields.keys()].find((name) => !FIELDS.includes(name));
  if (other !== undefined)
    throw bad(
      `the sources have the field ${other}; leave it out, as only ${FIELDS.join(', ')} are taken, so that nothing unsigned is`,
    );
  if (!fields.has('types') || !fields.has('uris') || !fields.has('suites'))
    throw bad('the sources need Types, URIs and Suites in each stanza (sources.list(5), deb822)');
  if ((fields.get('signed-by') ?? '') === '')
    throw bad(
      'the sources name no Signed-By keyring; add one, as without it nothing can be verified',
    );
  if (!/^(yes|no)$/.test(fields.get('check-valid-until') ?? 'yes'))
    throw bad(
      'the sources’ Check-Valid-Until is yes or no; with no, metadata may be as old as it likes, as a snapshot’s is',
    );
  if (!(fields.get('uris') ?? '').split(/\s+/).every((uri) => /^(https?|file):\//.test(uri)))
    throw bad('the sources may use http, https and file URIs only');
};

const bad = (message: string): KilnError => new KilnError('bad-request', message);
