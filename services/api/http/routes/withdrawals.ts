import { Router } from 'express';
import { z } from 'zod';
import { CreateWithdrawal } from '../../../core/protocol/withdrawal.ts';
import { GiveName } from '../../../core/protocol/source.ts';
import { WITHDRAWABLE } from '../../../core/policy/withdrawal.ts';
import { giveName } from '../../record/owners.ts';
import { endWithdrawal, listWithdrawals } from '../../record/withdrawn.ts';
import type { ApiDeps } from '../deps.ts';
import { NO_BODY, ok, route } from '../route.ts';

const Kind = z.enum(WITHDRAWABLE);

/** `/v1/withdrawals`: what hosts are not given any more; `/v1/names`: whose a name is. An admin decides both. */
export const withdrawalRoutes = (deps: ApiDeps): Router => {
  const { db, coordinator } = deps;
  const router = Router();
  router.post(
    '/v1/withdrawals',
    route(deps, 'admin', CreateWithdrawal, async ({ body, caller }) => {
      await coordinator.withdraw(body, caller.token);
      return { status: 201, json: body };
    }),
  );
  router.get(
    '/v1/withdrawals',
    route(deps, 'client', NO_BODY, async ({ page }) => ok(await listWithdrawals(db, page()))),
  );
  router.delete(
    '/v1/withdrawals/:kind/:id',
    route(deps, 'admin', NO_BODY, async ({ param, response }) => {
      await endWithdrawal(db, Kind.parse(param('kind')), param('id'));
      response.status(204).end();
      return null;
    }),
  );
  router.post(
    '/v1/names/:name',
    route(deps, 'admin', GiveName, async ({ param, body, caller }) => {
      const { id, name } = await giveName(db, param('name'), body.token ?? caller.token);
      return ok({ id, name });
    }),
  );
  return router;
};
