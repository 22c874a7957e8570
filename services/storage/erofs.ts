/**
 * A read-only file system in one file (EROFS, without compression), as kernels from 5.4 on mount it: always the same bytes for the same
 * files (source: `fs/erofs/erofs_fs.h`).
 */

/** A file of it: its absolute path, and its permissions. It belongs to root; so do the directories above it. */
export interface ErofsFile {
  readonly path: string;
  readonly bytes: Buffer;
  readonly mode: number;
}

/** A file or directory with its number, which says where its inode is. */
interface Node {
  readonly nid: number;
  readonly parent: number;
  readonly mode: number;
  readonly links: number;
  /** Its content. */
  readonly bytes: Buffer;
}

const BLOCK = 4096;
const INODE = 32;
/** Inodes begin with the second block; numbers count from the first. */
const FIRST = BLOCK / INODE;
const SUPERBLOCK = 1024;
const MAGIC = 0xe0f5e1e2;
/** The build time is that of the files' content, not of their inodes. */
const MTIME = 2;
const DIRECTORY = { mode: 0o040755, type: 2 };
const REGULAR = { mode: 0o100000, type: 1 };
const DIRENT = 12;

/** A directory's names, each with what it is. */
type Tree = Map<string, Tree | ErofsFile>;

/** Writes the file system of some files. `time` is that of all, in seconds since 1970. */
export const erofsImage = (files: readonly ErofsFile[], time: number): Buffer => {
  const nodes = numbered(treeOf(files));
  const meta = blocksOf(nodes.length * INODE);
  const inodes = Buffer.alloc(meta * BLOCK);
  const data: Buffer[] = [];
  let block = 1 + meta;
  for (const [index, node] of nodes.entries()) {
    const at = index * INODE;
    inodes.writeUInt16LE(node.mode, at + 4);
    inodes.writeUInt16LE(node.links, at + 6);
    inodes.writeUInt32LE(node.bytes.length, at + 8);
    inodes.writeUInt32LE(block, at + 16);
    inodes.writeUInt32LE(index + 1, at + 20);
    const blocks = blocksOf(node.bytes.length);
    data.push(node.bytes, Buffer.alloc(blocks * BLOCK - node.bytes.length));
    block += blocks;
  }
  const head = Buffer.alloc(BLOCK);
  head.writeUInt32LE(MAGIC, SUPERBLOCK);
  head.writeUInt32LE(MTIME, SUPERBLOCK + 8);
  head.writeUInt8(Math.log2(BLOCK), SUPERBLOCK + 12);
  head.writeUInt16LE(FIRST, SUPERBLOCK + 14);
  head.writeBigUInt64LE(BigInt(nodes.length), SUPERBLOCK + 16);
  head.writeBigUInt64LE(BigInt(time), SUPERBLOCK + 24);
  head.writeUInt32LE(block, SUPERBLOCK + 36);
  return Buffer.concat([head, inodes, ...data]);
};

const blocksOf = (bytes: number): number => Math.ceil(bytes / BLOCK);
const padded = (bytes: Buffer): Buffer => Buffer.concat([bytes], blocksOf(bytes.length) * BLOCK);

const treeOf = (files: readonly ErofsFile[]): Tree => {
  const root: Tree = new Map();
  for (const file of files) {
    const [, ...names] = file.path.split('/');
    const last = names.pop() ?? '';
    let at = root;
    for (const name of names) {
      const next = at.get(name) ?? new Map<string, Tree | ErofsFile>();
      if (!(next instanceof Map)) throw new TypeError(`${file.path} is below a file`);
      at.set(name, next);
      at = next;
    }
    if (at.has(last)) throw new TypeError(`${file.path} is there twice`);
    at.set(last, file);
  }
  return root;
};

/** All nodes in the order of their numbers: each directory before what is in it. */
const numbered = (root: Tree): readonly Node[] => {
  const nodes: Node[] = [];
  const add = (of: Tree | ErofsFile, parent: number | null): number => {
    const nid = FIRST + nodes.length;
    const above = parent ?? nid;
    if (!(of instanceof Map)) {
      nodes.push({ nid, parent: above, mode: REGULAR.mode | of.mode, links: 1, bytes: of.bytes });
      return nid;
    }
    const place = nodes.length;
    const node = { nid, parent: above, mode: DIRECTORY.mode, links: 2, bytes: Buffer.alloc(0) };
    nodes.push(node);
    const sorted = [...of].toSorted(([one], [other]) => compareNames(one, other));
    const entries = sorted.map(([name, each]) => ({
      name: Buffer.from(name),
      type: each instanceof Map ? DIRECTORY.type : REGULAR.type,
      nid: add(each, nid),
    }));
    const own = [
      { name: Buffer.from('.'), type: DIRECTORY.type, nid },
      { name: Buffer.from('..'), type: DIRECTORY.type, nid: above },
    ];
    const below = entries.filter(({ type }) => type === DIRECTORY.type).length;
    nodes[place] = { ...node, links: 2 + below, bytes: directory([...own, ...entries]) };
    return nid;
  };
  add(root, null);
  return nodes;
};

const compareNames = (one: string, other: string): number =>
  Buffer.compare(Buffer.from(one), Buffer.from(other));

interface Entry {
  readonly name: Buffer;
  readonly type: number;
  readonly nid: number;
}

/** A directory's content: blocks of entries, sorted by name, each block's names behind its entries. */
const directory = (entries: readonly Entry[]): Buffer => {
  const blocks: Entry[][] = [];
  let room = 0;
  for (const entry of entries.toSorted((one, other) => Buffer.compare(one.name, other.name))) {
    const size = DIRENT + entry.name.length;
    if (room < size) {
      blocks.push([]);
      room = BLOCK;
    }
    blocks.at(-1)?.push(entry);
    room -= size;
  }
  return Buffer.concat(
    blocks.map((each, index) => {
      const bytes = direntsOf(each);
      return index === blocks.length - 1 ? bytes : padded(bytes);
    }),
  );
};

const direntsOf = (entries: readonly Entry[]): Buffer => {
  const heads = Buffer.alloc(entries.length * DIRENT);
  let name = heads.length;
  for (const [index, entry] of entries.entries()) {
    heads.writeBigUInt64LE(BigInt(entry.nid), index * DIRENT);
    heads.writeUInt16LE(name, index * DIRENT + 8);
    heads.writeUInt8(entry.type, index * DIRENT + 10);
    name += entry.name.length;
  }
  return Buffer.concat([heads, ...entries.map((each) => each.name)]);
};
