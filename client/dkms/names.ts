/** What may stand for a module, a version, a kernel or an architecture of dkms's: each becomes part of a path. */
export const DKMS_NAME = /^[A-Za-z0-9][A-Za-z0-9_.+~-]{0,127}$/;
