import { KilnError } from '../../services/core/errors.ts';
import { WITHDRAWABLE, type Withdrawable } from '../../services/core/policy/withdrawal.ts';
import { table, type Command } from '../command.ts';

const withdraw: Command = {
  name: 'withdraw',
  args: '[KIND ID]',
  summary: 'keep something from all hosts from now on, or list what is kept (admin)',
  help: `KIND is ${WITHDRAWABLE.join(', ')}; ID a digest (of a source also NAME/VERSION), a build's id or a signer's key (kiln signer list).
What is being built of it ends, nothing made of it is given out again, and hosts that have it say so (kiln status, kiln verify).
Their autoinstall goes to what is next: the next best version, other headers of the kernel, another signature.

      --reason TEXT      why, in one line: hosts show it
      --undo             take a withdrawal back; hosts that have heard of it want to be told (kiln install --allow-withdrawn)`,
  options: { reason: { type: 'string' }, undo: { type: 'boolean' } },
  async run(context) {
    const { service } = context;
    const [kind, id, ...others] = context.args;
    if (kind !== undefined) {
      if (!isKind(kind) || id === undefined || others.length > 0)
        throw new KilnError('bad-request', `give one of ${WITHDRAWABLE.join(', ')}, and its id`);
      const reason = context.option('reason');
      if (context.flag('undo')) await service.endWithdrawal(kind, id);
      else if (reason === undefined)
        throw new KilnError('bad-request', 'say why with --reason: hosts show it');
      else await service.withdraw(kind, id, reason);
    }
    const withdrawals = await service.withdrawals();
    const rows = withdrawals.map((each) => [
      each.kind,
      each.name,
      each.id,
      each.madeBy.name,
      each.reason,
    ]);
    context.print(
      rows.length === 0
        ? 'nothing is withdrawn'
        : table([['KIND', 'NAME', 'ID', 'BY', 'REASON'], ...rows]),
      withdrawals,
    );
  },
};

const isKind = (text: string): text is Withdrawable => WITHDRAWABLE.some((kind) => kind === text);

const signerList: Command = {
  name: 'signer list',
  args: '',
  summary: 'list the certificates that this service signs with; hosts compare their SHA-256',
  help: '',
  options: {},
  async run(context) {
    const signers = await context.service.signers();
    context.print(table([['SHA-256'], ...signers.map(({ key }) => [key])]), signers);
  },
};

export const WITHDRAW_COMMANDS: readonly Command[] = [withdraw, signerList];
