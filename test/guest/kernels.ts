/** Its ext4 dereferences NULL when dpkg unpacks much (Debian’s bug 1154101, mended in 6.1.0-56). */
export const CRASHING = '6.1.0-55-amd64';
