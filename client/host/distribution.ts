import { readHostText } from './host-files.ts';
import type { Host } from './host.ts';

const LIMIT = 64 * 1024;

/** `ID` and the words of `ID_LIKE` (os-release(5)). */
export const readDistribution = async (host: Host): Promise<readonly string[]> => {
  const text =
    (await readHostText(host, 'etc/os-release', LIMIT)) ??
    (await readHostText(host, 'usr/lib/os-release', LIMIT)) ??
    '';
  return [...text.matchAll(/^ID(?:_LIKE)?=["']?([a-z0-9._ -]+)/gm)].flatMap(([, words = '']) =>
    words.split(' '),
  );
};
