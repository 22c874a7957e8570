import { mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { EvaluatedConf } from '../../services/core/source/dkms-evaluation.ts';
import type { evaluateConfs } from './evaluate.ts';
import { isThere } from './look.ts';

/** Where a dkms.conf looks for a kernel's options in its headers. */
const CONFIGS = ['.config', 'include/config/auto.conf'];

/** What a dkms.conf may use; among it, where a kernel's headers and its options are. */
type Variables = Parameters<typeof evaluateConfs>[2];

/**
 * Evaluates with a kernel's headers, or, on a host that has none, with a directory in their place that has the kernel's options, as
 * `/boot/config-RELEASE` tells them: a dkms.conf may ask there whether the kernel is one for it. Values name the headers' own place all the same.
 */
export const withHeaders = async (
  variables: Variables,
  evaluate: (variables: Variables) => Promise<EvaluatedConf>,
): Promise<EvaluatedConf> => {
  const { kernel_source_dir: headers = '', kernel_config: config = '' } = variables;
  if ((await isThere(headers)) || !(await isThere(config))) return evaluate(variables);
  const standIn = await mkdtemp(join(tmpdir(), 'dkms-headers.'));
  try {
    for (const path of CONFIGS) {
      await mkdir(dirname(join(standIn, path)), { recursive: true });
      await symlink(config, join(standIn, path));
    }
    const conf = await evaluate({ ...variables, kernel_source_dir: standIn });
    return new Map(
      [...conf].map(([name, values]) => [
        name,
        new Map([...values].map(([at, value]) => [at, value.replaceAll(standIn, headers)])),
      ]),
    );
  } finally {
    await rm(standIn, { recursive: true, force: true });
  }
};
