import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { KilnError } from '../../services/core/errors.ts';
import { modinfoValue, readModuleFile } from '../../services/core/module/module-file.ts';
import { moduleNameOf } from '../../services/core/module/module-name.ts';
import { readModule } from '../host/kernel-modules.ts';
import { run } from '../host/programs.ts';
import type { Receipt } from '../installed/receipts.ts';

/** Parameters by module, as `modprobe` takes them: `NAME=VALUE`, or `NAME` for one that is switched on. */
export type Parameters = ReadonlyMap<string, readonly string[]>;

const PARAMETER = /^(?<module>[A-Za-z0-9_][A-Za-z0-9_-]{0,63})\.(?<setting>[A-Za-z0-9_]+(?:=.*)?)$/;

/** Reads `MODULE.NAME=VALUE`, as the kernel's command line has it. Throws `bad-request` naming what is no such thing. */
export const readParameters = (given: readonly string[]): Parameters => {
  const parameters = new Map<string, string[]>();
  for (const each of given) {
    const { module = '', setting = '' } = PARAMETER.exec(each)?.groups ?? {};
    if (module === '')
      throw new KilnError(
        'bad-request',
        `--parameter ${each} is not MODULE.NAME=VALUE; write it as the kernel’s command line has it, such as v4l2loopback.devices=2`,
      );
    const name = moduleNameOf(module);
    parameters.set(name, [...(parameters.get(name) ?? []), setting]);
  }
  return parameters;
};

/** How the loading of one module ended. */
export interface Loaded {
  readonly source: string;
  readonly module: string;
  /** Why it, or not this build of it, is in the kernel now; `null` where it is. */
  readonly problem: string | null;
}

/** Loads what was installed into the running kernel, whose receipts these are. What is in it already stays as it is. */
export const loadModules = async (
  receipts: readonly Receipt[],
  parameters: Parameters,
): Promise<readonly Loaded[]> => {
  const all = receipts.flatMap((receipt) =>
    receipt.modules.map(({ modname, path }) => ({
      source: receipt.name,
      module: moduleNameOf(modname),
      path: join('/lib/modules', receipt.release, path),
    })),
  );
  const unknown = [...parameters.keys()].filter((name) =>
    all.every((each) => each.module !== name),
  );
  const loaded: Loaded[] = unknown.map((module) => ({
    source: module,
    module,
    problem: `there are parameters for ${module}, and no such module was installed`,
  }));
  // One after the other: a module may need one that was loaded before it.
  for (const { source, module, path } of all) {
    const problem = await load(module, path, parameters.get(module) ?? []);
    loaded.push({ source, module, problem });
  }
  return loaded;
};

const load = async (
  module: string,
  path: string,
  settings: readonly string[],
): Promise<string | null> => {
  const before = await inKernel(module, 'initstate');
  if (before !== null) return whyOther(module, path, settings);
  const { status, words } = await run('modprobe', ['--', module, ...settings]);
  if (status === 0) return null;
  return `${module} was not loaded: ${words || `modprobe ended with ${status}`}; dmesg may say more`;
};

/** Why a module that was in the kernel already is not what was wanted; `null` where it is. */
const whyOther = async (
  module: string,
  path: string,
  settings: readonly string[],
): Promise<string | null> => {
  const next = `unload it (modprobe -r ${module}) and load it again, or reboot`;
  const installed = readModuleFile(await readModule(path));
  const isOther = async (key: 'srcversion' | 'version'): Promise<boolean> => {
    const there = await inKernel(module, key);
    return there !== null && there !== modinfoValue(installed, key);
  };
  if ((await isOther('srcversion')) || (await isOther('version')))
    return `another build of ${module} is loaded; ${next}`;
  if (settings.length > 0)
    return `${module} was loaded already, without these parameters (${settings.join(' ')}); ${next}`;
  return null;
};

/** A fact that the kernel tells of a loaded module (source: Documentation/ABI/testing/sysfs-module). */
const inKernel = async (
  module: string,
  fact: 'initstate' | 'srcversion' | 'version',
): Promise<string | null> =>
  readFile(join('/sys/module', module, fact), 'utf8').then(
    (text) => text.trim(),
    () => null,
  );
