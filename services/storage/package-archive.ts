/** A package as an archive's verified metadata names it. */
export interface ArchivePackage {
  /** The one name by which its archive knows it. */
  readonly name: string;
  readonly version: string;
  /** Of its file, in hex. */
  readonly checksum: string;
  /** Names of the packages it depends on. */
  readonly depends: readonly string[];
}

/** A distribution's archive, whatever its packages are: nothing of it is believed before it was verified. */
export interface PackageArchive {
  /**
   * Fetches the metadata. `newest` is when the newest that was believed before was made, in seconds since 1970, and what comes back is
   * when this was; `null` where the archive's own tool keeps that. Throws `unverified` where it is older, or not signed by the archive's
   * keys.
   */
  update(newest: number | null): Promise<number | null>;
  /** The names of its packages, newer ones after older ones. */
  names(): Promise<readonly string[]>;
  /** The newest version of a package. Throws `not-found`. */
  show(name: string): Promise<ArchivePackage>;
  /** The same of several at once, without those that are not there. */
  showAll(names: readonly string[]): Promise<readonly ArchivePackage[]>;
  /** Downloads packages, their bytes checked against the metadata; the files are gone when `use` ends. Throws `unverified`. */
  download<T>(
    packages: readonly ArchivePackage[],
    use: (files: readonly string[]) => Promise<T>,
  ): Promise<T>;
}
