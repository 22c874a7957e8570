import { sendTree } from '../ask.ts';
import { onlyArgument, table, type Command } from '../command.ts';

const kernelPush: Command = {
  name: 'kernel push',
  args: 'PATH',
  summary:
    'give the service a kernel’s headers (directory or tarball); an admin’s push approves them',
  help: `PATH is a tree from / (with usr/src and usr/lib/linux-kbuild-*), or a single build tree, or a tarball of either.`,
  options: {},
  async run(context) {
    const blob = await sendTree(context, onlyArgument(context, 'directory or tarball'), 'headers');
    context.progress.step('reading them');
    const kernel = await context.service.createKernel(blob);
    context.progress.done();
    context.print(
      `kernel ${kernel.release} ${kernel.arch}  ${kernel.digest}\nbuilt with ${kernel.compiler}`,
      kernel,
    );
  },
};

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
      k.trust === 'admin' ? 'approved' : 'not approved',
      k.digest,
    ]);
    context.print(table([['KERNEL', 'ARCH', 'TRUST', 'DIGEST'], ...rows]), kernels);
  },
};

export const KERNEL_COMMANDS: readonly Command[] = [kernelPush, kernelList];
