/** Bytes that come in pieces, kept in few large buffers: a sandbox may send them one at a time. */
export interface Pieces {
  add(piece: Uint8Array): void;
  length(): number;
  whole(): Buffer;
}

const CHUNK = 1024 * 1024;

export const createPieces = (): Pieces => {
  const full: Buffer[] = [];
  let open = Buffer.allocUnsafe(1024);
  let [used, length] = [0, 0];
  return {
    add(piece) {
      length += piece.length;
      if (used + piece.length > open.length) {
        full.push(open.subarray(0, used));
        open = Buffer.allocUnsafe(Math.max(CHUNK, piece.length));
        used = 0;
      }
      open.set(piece, used);
      used += piece.length;
    },
    length: () => length,
    whole: () => Buffer.concat([...full, open.subarray(0, used)]),
  };
};
