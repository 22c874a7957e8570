/** A change of the host: what shall be at a path below its root (bytes, a link, or nothing). */
export interface Change {
  readonly path: string;
  readonly to: Buffer | { readonly link: string } | null;
}

/** An initramfs image that is made anew when the modules are in place. */
export interface Image {
  /** Below the host's root. */
  readonly path: string;
  refresh(): Promise<void>;
}

/** Changes that are made completely or not at all, and what belongs to them. */
export interface Transaction {
  /** A description for people: `install zfs/2.1.11 for 6.1.0-56-amd64`. */
  readonly title: string;
  readonly changes: readonly Change[];
  /** Kernels whose index must be brought up to date. */
  readonly releases: readonly string[];
  readonly images: readonly Image[];
}
