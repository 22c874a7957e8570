import { sendKernel } from '../ask/ask.ts';
import { table, type Command, type Context } from '../command.ts';
import { chooseRelease } from '../host/host.ts';
import { findHeaders } from '../ask/kernel-tree.ts';
import { sendHeaders, type SentKernel } from '../ask/send-kernel.ts';

const kernelPush: Command = {
  name: 'kernel push',
  args: '[PATH…]',
  summary: 'give the service a kernel’s headers; an admin’s push approves them',
  help: `Without PATH: the headers of a kernel of this host, the tree behind /lib/modules/RELEASE/build with all that its links lead to.
PATH is a directory (a build tree, which is sent with all that it leads to, or what stands from / with usr/src and usr/lib), a tarball
of the same, or the packages that hold them (.deb, .rpm). Where a part is missing, it is named.
What the service knows is not sent again; of a kernel like one that it knows, only new files are.

  -k, --kernel RELEASE   another than the running kernel
      --root DIR         of another root`,
  options: { kernel: { type: 'string', short: 'k' } },
  async run(context) {
    const { kernel, sent } =
      context.args.length === 0 ? await pushOwn(context) : await sendKernel(context, context.args);
    context.progress.done();
    const without = kernel.missing.map((part) => `\nwithout ${part}, which sources in Rust need`);
    context.print(
      `kernel ${kernel.release} ${kernel.arch}  ${kernel.digest}\nbuilt with ${kernel.compiler}\nsent ${sent} bytes${without.join('')}`,
      { ...kernel, sent },
    );
  },
};

const pushOwn = async (context: Context): Promise<SentKernel> => {
  const host = await context.host();
  const release = await chooseRelease(host, context.option('kernel'));
  context.progress.step(`reading the headers of ${release}`);
  return sendHeaders(context, await findHeaders(host, release));
};

const TRUST_WORDS = {
  client: 'not approved',
  ci: 'not approved',
  archive: 'verified',
  admin: 'approved',
} as const;

const kernelList: Command = {
  name: 'kernel list',
  args: '',
  summary: 'list the kernels whose headers are here',
  help: '',
  options: {},
  async run(context) {
    const kernels = await context.service.kernels();
    const rows = kernels.map((k) => [
      k.release,
      k.arch,
      k.withdrawn === null ? TRUST_WORDS[k.trust] : 'withdrawn',
      k.digest,
      k.madeBy.name,
    ]);
    context.print(table([['KERNEL', 'ARCH', 'TRUST', 'DIGEST', 'BY'], ...rows]), kernels);
  },
};

export const KERNEL_COMMANDS: readonly Command[] = [kernelPush, kernelList];
