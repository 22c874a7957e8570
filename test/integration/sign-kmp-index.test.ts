import { beforeAll, describe, expect, it } from '@jest/globals';
import type { Kabi } from '../../services/core/packages/kabi.ts';
import type { ModulesSubject } from '../../services/core/packages/subject.ts';
import { refusal } from '../unit/samples.ts';
import { contentOf, openSigned, settingsOf, type Indexed, type Signed } from './signed.ts';

/** The signer holds what packages need of a kernel against the bytes of their modules, whatever the coordinator says of these. */

/** What the module of a signed build needs. */
const KABI: Kabi = {
  symbols: [
    ['_printk', '92997ed8'],
    ['module_layout', '00000abc'],
  ],
  vermagic: 'SMP preempt mod_unload modversions',
  isGpl: false,
  namespaces: [],
};
let signed: Signed;
let subject: ModulesSubject;

/** Has the signer write the index of a package that needs this, which is what is said of it, too. */
const needing = async (kabi: Kabi): Promise<Indexed> => {
  const { packed, indexed } = signed;
  const settings = await packed(settingsOf(subject), 'kmp');
  return indexed(contentOf([await packed({ ...subject, kabi }, 'kmp'), settings], 'kmp'));
};

beforeAll(async () => {
  signed = await openSigned();
  subject = await signed.signedBuild(signed.key, '1.0');
});

describe('a repository of packages that track the kABI', () => {
  it('is signed where they need what their modules do by their bytes', async () => {
    const { files } = await needing(KABI);
    const primary = files.find(({ path }) => path.endsWith('-primary.xml'));
    if (primary === undefined) throw new Error('no list of packages');
    const text = (await signed.blobs.read(primary.digest, 1024 ** 2)).toString();
    expect(text).toMatch(/name="ksym\(amd64:_printk\)" flags="EQ" epoch="0" ver="92997ed8"/);
  });

  it.each<[string, Partial<Kabi>]>([
    ['lack a symbol', { symbols: KABI.symbols.slice(1) }],
    ['need another CRC', { symbols: [['_printk', '92997ed9'], ...KABI.symbols.slice(1)] }],
    ['need a symbol more', { symbols: [['a', '00000001'], ...KABI.symbols] }],
    ['need nothing', { symbols: [] }],
    ['have another vermagic', { vermagic: 'SMP mod_unload modversions' }],
    ['are under the GPL', { isGpl: true }],
    ['import a namespace', { namespaces: ['DMA_BUF'] }],
  ])('is not signed where they say that they %s', async (_, change) => {
    await expect(needing({ ...KABI, ...change })).rejects.toThrow(
      refusal('unverified', /than planned/),
    );
  });

  it('is not signed with a package that follows a flavour, of which there are none', async () => {
    const { source, kernel } = subject;
    const of = { kind: 'flavour', source, flavour: 'amd64', kernel, revision: 1 } as const;
    const following = await signed.packed(of, 'rpm');
    await expect(signed.indexed(contentOf([following], 'kmp'))).rejects.toThrow(
      refusal('unverified', /none follows one/),
    );
  });
});
