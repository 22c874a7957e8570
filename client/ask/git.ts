import { execFile } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { promisify } from 'node:util';

/**
 * The commit a directory was checked out from, if it is a Git checkout without changes and git is here; else `undefined`: a record that
 * names a commit must mean its bytes.
 */
export const cleanCommit = async (directory: string): Promise<string | undefined> => {
  const isDirectory = await stat(directory).then((found) => found.isDirectory());
  if (!isDirectory) return undefined;
  const git = async (...args: string[]): Promise<string> =>
    (await promisify(execFile)('git', ['-C', directory, ...args])).stdout.trim();
  try {
    const [commit, changes] = [
      await git('rev-parse', 'HEAD'),
      await git('status', '--porcelain', '.'),
    ];
    return changes === '' && /^[0-9a-f]{40,64}$/.test(commit) ? commit : undefined;
  } catch {
    return undefined;
  }
};
