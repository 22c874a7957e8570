import { beforeAll, describe, expect, it } from '@jest/globals';
import type { ModulesSubject } from '../../services/core/packages/subject.ts';
import { refusal } from '../unit/samples.ts';
import { contentOf, openSigned, settingsOf, type Indexed, type Signed } from './signed.ts';

/** The signer holds what packages need of a kernel against the bytes of their modules, whatever the coordinator says of these. */

/** What the module of a signed build imports. */
const IMPORTS = { module_layout: '00000abc', _printk: '92997ed8' };
let signed: Signed;
let subject: ModulesSubject;

const withImports = (imports: Readonly<Record<string, string>>): ModulesSubject => ({
  ...subject,
  modules: subject.modules.map((module) => ({ ...module, imports })),
});
/** Has the signer write the index of a package that needs these symbols, which is what it says of itself. */
const needing = async (imports: Readonly<Record<string, string>>): Promise<Indexed> => {
  const { packed, indexed } = signed;
  const settings = await packed(settingsOf(subject), 'kmp');
  return indexed(contentOf([await packed(withImports(imports), 'kmp'), settings], 'kmp'));
};

beforeAll(async () => {
  signed = await openSigned();
  subject = await signed.signedBuild(signed.key, '1.0');
});

describe('a repository of packages that track the kABI', () => {
  it('is signed where they need what the bytes of their modules import', async () => {
    const { files } = await needing(IMPORTS);
    const primary = files.find(({ path }) => path.endsWith('-primary.xml'));
    if (primary === undefined) throw new Error('no list of packages');
    const text = (await signed.blobs.read(primary.digest, 1024 ** 2)).toString();
    expect(text).toMatch(/name="ksym\(amd64:_printk\)" flags="EQ" epoch="0" ver="92997ed8"/);
  });

  it.each<[string, Readonly<Record<string, string>>]>([
    ['lacks a symbol', { module_layout: IMPORTS.module_layout }],
    ['has another CRC', { ...IMPORTS, _printk: '92997ed9' }],
    ['has a symbol more', { ...IMPORTS, more: '00000001' }],
    ['is empty', {}],
  ])('is not signed where what is said of a module’s imports %s', async (_, imports) => {
    await expect(needing(imports)).rejects.toThrow(
      refusal('unverified', /is not what was signed \(imports\)/),
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

  it('is the only one that says what modules import', async () => {
    const { packed, indexed } = signed;
    const deb = await packed(withImports(IMPORTS));
    await expect(indexed(contentOf([deb]))).rejects.toThrow(
      refusal('unverified', /is not what was signed \(imports\)/),
    );
  });
});
