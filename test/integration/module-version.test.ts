import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from '@jest/globals';
import {
  compareModuleVersions,
  type VersionOrder,
} from '../../services/core/module/module-version.ts';
import { readModuleFile } from '../../services/core/module/module-file.ts';
import { unpackPackages } from '../machine/debian.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { mustRun } from '../machine/run.ts';
import { moduleBytes } from '../unit/samples.ts';

/** What DKMS's `compare_module_version` prints of the first module against the second. */
const ORDERS: Readonly<Record<string, VersionOrder>> = {
  '==': 'same',
  '=': 'same',
  '>': 'newer',
  '<': 'older',
  '?': 'unknown',
};

/** Versions that are hard to tell apart; `null` is none. */
const VERSIONS = [
  null,
  '1',
  '1.0',
  '1.00',
  '1.9',
  '1.10',
  '1.0a',
  '1.0-rc1',
  '1.0-rc10',
  '01.0',
  'v1.0',
  'V1.0',
  '2.6.9-1cvs200409091247',
  '999',
  '1000',
  '  1.0',
  '1.0 A4B2',
  '1.0\\2',
  '0.7.0~git~abc',
  '0.7.0+git',
  '1é',
  '12b3c45',
];

/** Prints one answer a line for each pair, with the functions of the real script. */
const SCRIPT = String.raw`
dkms=$1 directory=$2 count=$3
source <(sed -n '/^VER()/,/^}/p;/^get_module_verinfo()/,/^}/p;/^compare_module_version()/,/^}/p' "$dkms")
for ((a = 0; a < count; a++)); do
  for ((b = 0; b < count; b++)); do
    compare_module_version "$directory/$a.ko" "$directory/$b.ko"
  done
done
true
`;

describe('versions of modules', () => {
  let dkms: string;
  let directory: string;

  beforeAll(async () => {
    dkms = join(await unpackPackages('dkms', ['dkms']), 'usr/sbin/dkms');
    directory = await freshDirectory('versions');
  });

  it('stand to each other as DKMS says, with its own functions and modinfo', async () => {
    const modules = VERSIONS.map((version, index) =>
      moduleBytes([
        'license=GPL',
        ...(version === null ? [] : [`version=${version}`]),
        `srcversion=${index}`,
        'name=tiny',
      ]),
    );
    await Promise.all(
      modules.map((bytes, index) => writeFile(join(directory, `${index}.ko`), bytes)),
    );
    const args = ['-c', SCRIPT, 'bash', dkms, directory, String(modules.length)];
    const answers = await mustRun('bash', args, { env: { ...process.env, LC_ALL: 'C' } });
    const theirs = answers
      .trim()
      .split('\n')
      .map((answer) => ORDERS[answer]);
    const infos = modules.map((bytes) => readModuleFile(bytes).modinfo);
    const ours = infos.flatMap((first) =>
      infos.map((second) => compareModuleVersions(first, second)),
    );
    expect(ours).toEqual(theirs);
  });
});
