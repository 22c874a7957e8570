import { fileURLToPath } from 'node:url';

/** The checkout, what the machine's preparation makes in it, and where the working files of demo, tests and bench go. */
export const CHECKOUT = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');
export const WORK = `${CHECKOUT}/.kiln`;
export const CLIENT = `${CHECKOUT}/dist/kiln`;
export const KILND = `${CHECKOUT}/services/kilnd.ts`;
export const NODE = `${CHECKOUT}/node_modules/.bin/node`;
export const TOOLCHAIN = {
  name: 'debian-12-gcc-12',
  tar: `${WORK}/toolchains/debian-12-gcc-12.tar`,
};
/** The same with what Debian's module packages need besides. */
export const DKMS_TOOLCHAIN = {
  name: 'debian-12-gcc-12-dkms',
  tar: `${WORK}/toolchains/debian-12-gcc-12-dkms.tar`,
};

/** What kernels that clang built are built for with. */
export const CLANG_TOOLCHAIN = {
  name: 'debian-12-clang-14',
  tar: `${WORK}/toolchains/debian-12-clang-14.tar`,
};
