import { KilnError } from '../../services/core/errors.ts';
import { ROLES, type Role } from '../../services/core/policy/policy.ts';
import type { Quotas } from '../../services/core/policy/quotas.ts';
import { listOption, onlyArgument, table, type Command, type Context } from '../command.ts';

const tokenCreate: Command = {
  name: 'token create',
  args: 'NAME',
  summary: 'make a token; its secret is shown once (admin)',
  help: `      --role ROLE        client (default), ci or admin
      --days N           valid so long (default 365)
      --names PATTERN,…  names of sources that are its own, such as 'acme-*', and the only ones it may publish; without, a name
                         belongs to the token that first published it
What it may have of the service, where that is not what its role may have (kiln token list --json):
      --builds N         builds that wait or run for it at once
      --uploads N        uploads at once
      --followers N      builds that it follows at once
      --daily-bytes N    bytes that it may send in a day`,
  options: {
    role: { type: 'string' },
    days: { type: 'string' },
    names: { type: 'string' },
    builds: { type: 'string' },
    uploads: { type: 'string' },
    followers: { type: 'string' },
    'daily-bytes': { type: 'string' },
  },
  async run(context) {
    const role = context.option('role') ?? 'client';
    const isRole = (text: string): text is Role => ROLES.some((known) => known === text);
    if (!isRole(role)) throw new KilnError('bad-request', `--role takes ${ROLES.join(', ')}`);
    const days = Number(context.option('days') ?? '365');
    const name = onlyArgument(context, 'name');
    const names = [...(listOption(context, 'names') ?? [])];
    const quotas = {
      ...quota(context, 'builds', 'builds'),
      ...quota(context, 'uploads', 'uploads'),
      ...quota(context, 'followers', 'followers'),
      ...quota(context, 'dailyBytes', 'daily-bytes'),
    };
    const token = await context.service.createToken({ name, role, days, names, quotas });
    context.print(token.secret, token);
  },
};

const quota = (
  context: Context,
  name: keyof Quotas,
  option: string,
): Partial<Record<keyof Quotas, number>> => {
  const text = context.option(option);
  if (text === undefined) return {};
  if (!/^\d{1,15}$/.test(text))
    throw new KilnError('bad-request', `--${option} takes a whole number`);
  return { [name]: Number(text) };
};

const tokenList: Command = {
  name: 'token list',
  args: '',
  summary: 'list tokens, without secrets (admin)',
  help: '',
  options: {},
  async run(context) {
    const tokens = await context.service.tokens();
    const date = (time: number): string => new Date(time).toISOString().slice(0, 10);
    const rows = tokens.map((t) => [
      t.id,
      t.role,
      t.revokedAt === null ? `until ${date(t.expiresAt)}` : 'revoked',
      t.name,
      t.madeBy.name,
      t.names.join(','),
    ]);
    context.print(table([['TOKEN', 'ROLE', 'VALID', 'NAME', 'BY', 'NAMES'], ...rows]), tokens);
  },
};

const tokenRevoke: Command = {
  name: 'token revoke',
  args: 'TOKEN',
  summary: 'end a token at once (admin)',
  help: `      --withdraw         withdraw all that it has pushed, too: sources, kernels, toolchains, and builds that it asked for with
                         settings or waivers (kiln withdraw)
      --reason TEXT      why, for who has that installed`,
  options: { withdraw: { type: 'boolean' }, reason: { type: 'string' } },
  async run(context) {
    const id = onlyArgument(context, 'token id');
    const reason = context.flag('withdraw')
      ? (context.option('reason') ?? 'the token that pushed it was revoked')
      : null;
    const withdrawn = await context.service.revokeToken(id, reason);
    context.print(
      `revoked ${shortId(id)}${reason === null ? '' : `, withdrew ${withdrawn} things that it pushed`}`,
      { revoked: id, withdrawn },
    );
  },
};

const shortId = (id: string): string => id.slice(0, 8);

export const TOKEN_COMMANDS: readonly Command[] = [tokenCreate, tokenList, tokenRevoke];
