/** What the kernel calls a module, from its name or the path of its file. */
export const moduleNameOf = (path: string): string =>
  (path.split('/').at(-1) ?? '').replace(/\.ko(\.(gz|xz|zst))?$/, '').replaceAll('-', '_');
