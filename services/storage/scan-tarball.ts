import { createHash } from 'node:crypto';
import type { Readable } from 'node:stream';
import { DEFAULT_TARBALL_LIMITS, type TarballLimits } from '../core/tree/tarball-rules.ts';
import { toDigest, type Digest } from '../core/digest.ts';
import { KilnError } from '../core/errors.ts';
import { isHostProgram, PROGRAM_HEAD } from '../core/kernel/host-programs.ts';
import type { ScannedTree, TreeEntry } from '../core/tree/tree.ts';
import { readTarball } from './read-tarball.ts';

const EVIDENCE_LIMIT = 4 * 1024 * 1024;
/** Bytes of all evidence in one tarball, which is kept in memory. */
const EVIDENCE_TOTAL = 16 * 1024 * 1024;
/** A whole kernel source has some hundred Makefiles near its top. */
const EVIDENCE_FILES = 4000;

/** Hashes every file of a tarball and keeps the content of those that `isEvidence` names, of programs the beginning. Writes nothing. */
export const scanTarball = async (
  tarball: Readable,
  isEvidence: (path: string) => boolean,
  limits: TarballLimits = DEFAULT_TARBALL_LIMITS,
): Promise<ScannedTree> => {
  const entries: TreeEntry[] = [];
  const files = new Map<string, { digest: Digest; executable: boolean }>();
  const evidence = new Map<string, Buffer>();
  const hardLinks: { path: string; target: string }[] = [];
  await readTarball(
    tarball,
    async (entry, body) => {
      if (entry.kind === 'directory') return;
      if (entry.kind === 'symlink') {
        entries.push(entry);
        return;
      }
      if (entry.kind === 'hardlink') {
        const target = files.get(entry.target);
        if (target === undefined) return;
        files.set(entry.path, target);
        entries.push({ kind: 'file', path: entry.path, ...target });
        hardLinks.push({ path: entry.path, target: entry.target });
        if (isEvidence(entry.path)) {
          const bytes = evidence.get(entry.target);
          if (bytes === undefined) {
            throw new KilnError(
              'bad-tarball',
              `${entry.path} is a hard link to ${entry.target}; make the tarball with that file as a file (tar --hard-dereference)`,
            );
          }
          evidence.set(entry.path, bytes);
        }
        return;
      }
      const file = {
        digest: await hashBody(body, entry.path, isEvidence, evidence),
        executable: entry.executable,
      };
      files.set(entry.path, file);
      entries.push({ kind: 'file', path: entry.path, ...file });
    },
    limits,
  );
  return { entries, evidence, hardLinks };
};

const hashBody = async (
  body: AsyncIterable<Buffer>,
  path: string,
  isEvidence: (path: string) => boolean,
  evidence: Map<string, Buffer>,
): Promise<Digest> => {
  const hash = createHash('sha256');
  const isKept = isEvidence(path);
  const head = isHostProgram(path) ? PROGRAM_HEAD : Infinity;
  const kept: Buffer[] = [];
  let size = 0;
  for await (const chunk of body) {
    hash.update(chunk);
    if (!isKept) continue;
    const piece = chunk.subarray(0, head - size);
    size += piece.length;
    if (size > EVIDENCE_LIMIT) {
      throw new KilnError(
        'too-large',
        `${path} is over ${EVIDENCE_LIMIT} bytes, more than such a file can have; leave it out`,
      );
    }
    kept.push(piece);
  }
  if (isKept) {
    const total = [...evidence.values()].reduce((sum, { length }) => sum + length, size);
    if (total > EVIDENCE_TOTAL || evidence.size > EVIDENCE_FILES) {
      throw new KilnError(
        'too-large',
        `the tarball has too many files like ${path}; send one tree at a time`,
      );
    }
    evidence.set(path, Buffer.concat(kept));
  }
  return toDigest(hash.digest('hex'));
};
