/** The HTTP side of ingest: which routes there are, who may use them, and how refusals are answered. */
import Router from '@koa/router';
import Koa, { type Context, type Middleware } from 'koa';
import type { Logger } from 'pino';
import { type AccessRule, decideAccess } from './access.js';
import { makeBodyBudget } from './body-budget.js';
import { makeBoundedLog } from './bounded-log.js';
import { ClientGoneError, HttpProblem, notFound, toProblem, unavailable } from './problem.js';
import { type ReceiveDeps, receive } from './receive.js';
import type { Source } from './sources/source.js';

/** `checks` by name, as in `{ redis: 'up' }`; they are shown to anyone. */
export type Readiness = { ok: boolean; checks: Record<string, string> };

/** What the debug routes answer; `undefined` is answered as 404. */
export type DebugQueries = {
  info: () => Promise<unknown>;
  event: (eventId: string) => Promise<unknown>;
  idem: (key: string) => Promise<unknown>;
};

export type IngestDeps = ReceiveDeps & {
  sources: readonly Source[];
  ready: () => Promise<Readiness>;
  /** Prometheus text. */
  metricsText: () => Promise<string>;
  /** `undefined` where the debug routes are not allowed. */
  debug: DebugQueries | undefined;
  access: AccessRule;
};

/** Bodies under way may take so much memory together, however many and slow their senders are. */
const BODIES_BYTES_MAX = 128 * 1024 * 1024;
const PROMETHEUS_TEXT = 'text/plain; version=0.0.4; charset=utf-8';

export function makeApp(deps: IngestDeps): Koa {
  const app = new Koa();
  // Answers and their log lines are ours; what is left is a socket that broke while it was written to.
  app.silent = true;
  app.on('error', (error: Error) => deps.log.debug({ err: error }, 'an answer could not be sent'));
  app.use(setSecurityHeaders);
  app.use(answerProblems(deps));
  app.use(refuseUnclearHost);
  app.use(guardDebug(deps));
  app.use(makeRoutes(deps).routes());
  app.use(refuseUnrouted);
  return app;
}

function makeRoutes(deps: IngestDeps): Router {
  // One spelling for each path: who shuts `/metrics` in a proxy has not to think of `/Metrics` and `/metrics/`.
  const router = new Router({ sensitive: true, strict: true });
  const shared = {
    budget: makeBodyBudget(Math.max(BODIES_BYTES_MAX, 2 * deps.bodyBytesMax)),
    logBounded: makeBoundedLog(deps.log),
  };
  for (const source of deps.sources) {
    // Some sender may have been given the path with a slash, and would lose webhooks.
    router.post([source.path, `${source.path}/`], async (ctx) => {
      const { status, body } = await receive(source, ctx.req, { ...deps, ...shared });
      ctx.status = status;
      ctx.body = body;
    });
  }
  router.get('/healthz', (ctx) => {
    ctx.body = { status: 'ok' };
  });
  router.get('/readyz', async (ctx) => {
    const { ok, checks } = await deps.ready();
    ctx.status = ok ? 200 : 503;
    ctx.body = { status: ok ? 'ready' : 'unavailable', ...checks };
  });
  router.get('/metrics', async (ctx) => {
    ctx.body = await deps.metricsText();
    ctx.set('Content-Type', PROMETHEUS_TEXT);
  });
  if (deps.debug) addDebugRoutes(router, deps.debug, deps.log);
  return router;
}

function addDebugRoutes(router: Router, debug: DebugQueries, log: Logger): void {
  const addRoute = (path: string, ask: (param: string) => Promise<unknown>) =>
    router.get(path, async (ctx) => {
      const answer = await askAsJson(ask(ctx.params.param ?? '')).catch((error: unknown) => {
        log.warn({ err: error }, 'a debug query failed');
        throw unavailable();
      });
      if (answer === undefined) throw notFound();
      ctx.type = 'json';
      ctx.body = answer;
    });
  addRoute('/debug/info', debug.info);
  addRoute('/debug/events/:param', debug.event);
  addRoute('/debug/idem/:param', debug.idem);
}

/** What stands in a stream may be nested deeper than can be written as JSON; that must fail here, not as it is sent. */
async function askAsJson(answer: Promise<unknown>): Promise<string | undefined> {
  return JSON.stringify(await answer);
}

/** Before the routes, so that neither method nor path tells a stranger that there are any. */
function guardDebug({ debug, access }: IngestDeps): Middleware {
  return async (ctx, next) => {
    if (!pathOf(ctx).toLowerCase().startsWith('/debug/')) return next();
    const { remoteAddress } = ctx.req.socket;
    const visit = decideAccess({ remoteAddress, headers: ctx.req.headers }, access);
    if (debug === undefined || visit.kind === 'hidden') throw notFound();
    if (visit.kind === 'unauthorized') {
      throw new HttpProblem(401, 'unauthorized', 'A token is needed.', { headers: { 'WWW-Authenticate': 'Bearer' } });
    }
    return next();
  };
}

/** Throws 404 for a target that is no URL. */
function pathOf(ctx: Context): string {
  try {
    return ctx.path;
  } catch {
    throw notFound();
  }
}

const setSecurityHeaders: Middleware = (ctx, next) => {
  ctx.set('X-Content-Type-Options', 'nosniff');
  ctx.set('Cache-Control', 'no-store');
  return next();
};

/** Of two hosts the first would count here and the other one perhaps for a proxy in front, where only one of them is this machine. */
const refuseUnclearHost: Middleware = (ctx, next) => {
  const { headersDistinct, httpVersion } = ctx.req;
  const hosts = headersDistinct.host?.length ?? 0;
  if (hosts > 1 || (hosts === 0 && httpVersion === '1.1')) {
    throw new HttpProblem(400, 'bad_request', 'The request should name one host.', {
      headers: { Connection: 'close' },
    });
  }
  return next();
};

function answerProblems({ log }: IngestDeps): Middleware {
  return async (ctx, next) => {
    try {
      await next();
    } catch (error) {
      if (error instanceof ClientGoneError) {
        ctx.respond = false;
        return;
      }
      const problem = toProblem(error);
      if (problem.code === 'internal') log.error({ err: error, method: ctx.method }, 'request failed');
      const { status, code, message, headers, issues } = problem;
      ctx.set(headers);
      ctx.status = status;
      ctx.body = { error: { code, message, ...(issues && { issues }) } };
    }
  };
}

/** Only reached when no route answered: the path is known with another method, or not at all. */
function refuseUnrouted(ctx: Context): void {
  const matched: { methods: string[] }[] = ctx.matched ?? [];
  if (matched.length === 0) throw notFound();
  const allowed = [...new Set(matched.flatMap(({ methods }) => methods))].sort().join(', ');
  throw new HttpProblem(405, 'method_not_allowed', `Allowed here: ${allowed}.`, { headers: { Allow: allowed } });
}
