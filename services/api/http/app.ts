import express, { type Express } from 'express';
import type { ApiDeps } from './deps.ts';
import { meterAnswers } from './meter-answers.ts';
import { answerErrors, sendProblem } from './problem.ts';
import { archiveRoutes } from './routes/archives.ts';
import { artifactRoutes } from './routes/artifacts.ts';
import { blobRoutes } from './routes/blobs.ts';
import { buildRoutes } from './routes/builds.ts';
import { healthRoutes } from './routes/health.ts';
import { endUnread } from './unread.ts';
import { missRoutes } from './routes/misses.ts';
import { packageRoutes } from './routes/packages.ts';
import { repositoryFileRoutes } from './routes/repository-files.ts';
import { repositoryRoutes } from './routes/repositories.ts';
import { resolveRoutes } from './routes/resolve.ts';
import { tokenRoutes } from './routes/tokens.ts';
import { toolchainRoutes } from './routes/toolchains.ts';
import { treeRoutes } from './routes/trees.ts';
import { withdrawalRoutes } from './routes/withdrawals.ts';

/** The HTTP service: `/healthz`, `/readyz`, `/v1` and `/repo`. */
export const createApp = (deps: ApiDeps): Express => {
  const app = express();
  app.disable('x-powered-by');
  app.set('etag', false);
  app.use(meterAnswers(deps.meters));
  app.use(endUnread);
  for (const routes of [
    healthRoutes,
    blobRoutes,
    resolveRoutes,
    treeRoutes,
    archiveRoutes,
    toolchainRoutes,
    buildRoutes,
    artifactRoutes,
    packageRoutes,
    repositoryRoutes,
    repositoryFileRoutes,
    tokenRoutes,
    missRoutes,
    withdrawalRoutes,
  ]) {
    app.use(routes(deps));
  }
  app.use((request, response) => {
    sendProblem(
      response,
      'not-found',
      `there is no ${request.method} ${request.path}; the README lists what there is`,
    );
  });
  app.use(answerErrors(deps.log));
  return app;
};
