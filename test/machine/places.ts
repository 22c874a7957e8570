import { fileURLToPath } from 'node:url';

/** The checkout, what the machine's preparation makes in it, and where the working files of demo, tests and bench go. */
export const CHECKOUT = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');
export const WORK = `${CHECKOUT}/.kiln`;
export const CLIENT = `${CHECKOUT}/dist/kiln`;
export const KILND = `${CHECKOUT}/services/kilnd.ts`;
export const NODE = `${CHECKOUT}/node_modules/.bin/node`;

/** A toolchain of `images/`, as `prepare` made it. */
export interface MadeToolchain {
  readonly name: string;
  readonly tar: string;
}
/** The toolchain of a folder in `images/`. */
export const madeToolchain = (name: string): MadeToolchain => ({
  name,
  tar: `${WORK}/toolchains/${name}.tar`,
});
/** The toolchain of Debian 12's kernels. */
export const TOOLCHAIN = madeToolchain('debian-12-gcc-12');
/** The same with what Debian's module packages need besides, and what packs RPM packages. */
export const DKMS_TOOLCHAIN = madeToolchain('debian-12-gcc-12-dkms');
/** What kernels that clang built are built for with. */
export const CLANG_TOOLCHAIN = madeToolchain('debian-12-clang-14');
