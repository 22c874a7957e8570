/**
 * The binary index that modprobe looks names up in (`modules.dep.bin` and its like): a tree of the keys' letters (source: kmod's
 * `shared/util` and `depmod`, index version 2.1). depmod writes the same bytes.
 */

const MAGIC = 0xb007f457;
const VERSION = 0x00020001;
/** Flags in a node's offset: what the node has. */
const PREFIX = 0x80000000;
const VALUES = 0x40000000;
const CHILDREN = 0x20000000;

interface Node {
  prefix: string;
  readonly children: Map<number, Node>;
  readonly values: { readonly text: string; readonly priority: number }[];
}

const newNode = (prefix: string): Node => ({ prefix, children: new Map(), values: [] });

/** Writes the index of lines `KEY VALUE` in ASCII, each line's number its priority. Throws for any other line. */
export const moduleIndex = (lines: readonly string[]): Buffer => {
  const root = newNode('');
  for (const [priority, line] of lines.entries()) {
    const [, key = '', text = ''] = /^([\x21-\x7e]+) ([\x20-\x7e]*)$/.exec(line) ?? [];
    if (key === '') throw new TypeError(`no index can have the line ${JSON.stringify(line)}`);
    nodeOf(root, key).values.push({ text, priority });
  }
  const pieces: Buffer[] = [];
  let at = 12;
  const put = (piece: Buffer): void => {
    pieces.push(piece);
    at += piece.length;
  };
  /** Writes what is below a node, then itself; gives its offset with its flags. */
  const write = ({ prefix, children, values }: Node): number => {
    const letters = [...children.keys()].toSorted((one, other) => one - other);
    const [first = 0] = letters;
    const last = letters.at(-1) ?? 0;
    const offsets = letters.length === 0 ? [] : Array.from({ length: last - first + 1 }, () => 0);
    for (const letter of letters) {
      const child = children.get(letter);
      if (child !== undefined) offsets[letter - first] = write(child);
    }
    let offset = at;
    if (prefix !== '') {
      offset += PREFIX;
      put(Buffer.from(`${prefix}\0`));
    }
    if (offsets.length > 0) {
      offset += CHILDREN;
      put(Buffer.from([first, last]));
      offsets.forEach((each) => put(number(each)));
    }
    if (values.length > 0) {
      offset += VALUES;
      put(number(values.length));
      for (const { text, priority } of values) {
        put(number(priority));
        put(Buffer.from(`${text}\0`));
      }
    }
    return offset;
  };
  const top = write(root);
  return Buffer.concat([number(MAGIC), number(VERSION), number(top), ...pieces]);
};

const number = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};

/** The node of a key, made where there is none. */
const nodeOf = (root: Node, key: string): Node => {
  let node = root;
  let rest = key;
  while (rest !== '') {
    const letter = rest.charCodeAt(0);
    rest = rest.slice(1);
    let child = node.children.get(letter);
    if (child === undefined) {
      child = newNode(rest);
      node.children.set(letter, child);
      return child;
    }
    const shared = sharedLength(child.prefix, rest);
    if (shared < child.prefix.length) {
      const upper = newNode(child.prefix.slice(0, shared));
      upper.children.set(child.prefix.charCodeAt(shared), child);
      child.prefix = child.prefix.slice(shared + 1);
      node.children.set(letter, upper);
      child = upper;
    }
    rest = rest.slice(shared);
    node = child;
  }
  return node;
};

const sharedLength = (one: string, other: string): number => {
  let length = 0;
  while (length < one.length && one[length] === other[length]) length += 1;
  return length;
};
