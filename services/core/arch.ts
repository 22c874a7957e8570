/** What the rest of Kiln calls a CPU family: `uname -m`'s word. */
export const ARCHES = [
  'x86_64',
  'i686',
  'aarch64',
  'armv7l',
  'ppc64le',
  's390x',
  'riscv64',
] as const;
export type Arch = (typeof ARCHES)[number];
