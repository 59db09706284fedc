/**
 * The settings: read once, at the top of a `main.ts`, from the environment or `.env`, checked by one schema and handed on
 * as a plain object in our words and units. Nothing else reads the environment. A bad value stops the process with a
 * message that names the variable and what it should be, never the value.
 */
import { existsSync, readFileSync } from 'node:fs';
import { z } from 'zod';
import { LEAD_FIELDS } from './events.js';
import { DATA_CENTRES, type DataCentre } from './providers/zoho/data-centres.js';
import { isReadable, namesDbWell } from './redis-url.js';

/** Where `./scripts/dev` says which Redis it runs; relative to the project's root, git-ignored. */
export const EMBEDDED_REDIS_FILE = '.gvi/dev.json';

/** The settings cannot be used; the message is for the person who starts the process. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

/** Of a port that cannot be listened on. */
export function portError(setting: 'PORT' | 'WORKER_PORT', { code }: NodeJS.ErrnoException): ConfigError {
  return new ConfigError(`${setting}: should be a port that is free and allowed; this one is not (${code})`);
}

const flag = () =>
  z
    .enum(['true', 'false', '1', '0', 'yes', 'no', 'on', 'off'], { error: 'should be true or false' })
    .transform((value) => ['true', '1', 'yes', 'on'].includes(value));

const anyWhole = ({ min = 1, max = Number.MAX_SAFE_INTEGER }: { min?: number; max?: number } = {}) =>
  z
    .string()
    .regex(/^\d+$/, 'should be a whole number')
    .transform(Number)
    .refine((value) => value >= min, `should be at least ${min}`)
    .refine((value) => value <= max, `should be at most ${max}`);

const whole = (fallback: number, range: Parameters<typeof anyWhole>[0] = {}) => anyWhole(range).default(fallback);

const positive = (fallback: number, max = Number.MAX_VALUE) =>
  z
    .string()
    .regex(/^\d+(\.\d+)?(e-?\d+)?$/, 'should be a number')
    .transform(Number)
    .refine(Number.isFinite, 'should be a number')
    .refine((value) => value > 0, 'should be more than 0')
    .refine((value) => value <= max, `should be at most ${max}`)
    .default(fallback);

const port = z
  .string()
  .regex(/^\d{1,5}$/, 'should be a port number')
  .transform(Number)
  .refine((value) => value <= 65_535, 'should be a port number');

const httpUrl = z
  .string()
  .regex(/^https?:\/\/[^\s/]+/, 'should be an http or https URL')
  .transform((url) => url.replace(/\/+$/, ''));

const commaList = z.string().transform((value) =>
  value
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== ''),
);

/** Commas alone name no key, and the source must not be taken for one that has none. */
const signingKeys = commaList
  .refine((keys) => keys.length > 0, 'should be a signing key, several separated by commas')
  .default([]);

const base64Keys = commaList
  .refine((keys) => keys.length > 0 && keys.every((key) => /^[A-Za-z0-9+/_-]+={0,2}$/.test(key) && bytesOf(key) > 0), {
    message: 'should be the base64 text that Read.ai shows, several separated by commas',
  })
  .default([]);

function bytesOf(base64: string): number {
  return Buffer.from(base64, 'base64').length;
}

const DOMAIN = /^[\p{L}\p{N}_-]+(\.[\p{L}\p{N}_-]+)+$/u;

/** One that is written wrong would be nobody's: colleagues would become leads. */
const domains = commaList
  .transform((list) => list.map((domain) => domain.toLowerCase().replace(/^@/, '')))
  .refine((list) => list.length > 0 && list.every((domain) => DOMAIN.test(domain)), {
    message: 'should be a mail domain such as example.com, several separated by commas',
  })
  .default([]);

const REDIS_FORM =
  'should be a URL such as redis://user:password@host:6379 or redis-sentinel://host:26379,host:26379/name, with user and password percent-encoded (%23 for #, %2F for /, %40 for @)';
const REDIS_SCHEMES = /^(redis|rediss|redis-sentinel|redis-cluster):\/\//;

/** A hundred years: of a longer time Redis refuses the end, in the midst of a script. */
const DAYS_MAX = 36_500;
/** What was handed back looks a day idle, which must be long for a claim; and a timer of more than 24 days fires at once. */
const CLAIM_MS_MAX = 3_600_000;
const GRACE_MS_MAX = 86_400_000;

/** Where none is set, and RETRY_MAX_MS is not below it. */
const RETRY_BASE_MS = 1000;
/** Shorter, it is guessed, or is no key that Read.ai made. */
const KEY_BYTES_MIN = 8;

const fieldTarget = z.object({ field: z.string().min(1), owner: z.enum(['service', 'person']).default('person') });
const fieldMap = z.record(z.string(), fieldTarget);
export type FieldMap = z.infer<typeof fieldMap>;

const schema = z.object({
  PORT: port.default(8000),
  WORKER_PORT: port.optional(),
  BASE_URL: httpUrl.optional(),
  REDIS_URL: z
    .string()
    .regex(REDIS_SCHEMES, {
      error: 'should be a redis://, rediss://, redis-sentinel:// or redis-cluster:// URL',
      abort: true,
    })
    .refine(isReadable, {
      error: REDIS_FORM,
      abort: true,
    })
    .refine(namesDbWell, 'should be a URL with a database by its number, or none; a cluster has number 0 alone')
    .optional(),
  KEY_PREFIX: z.string().max(100, 'should have at most 100 characters').default(''),
  LOG_LEVEL: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info'),
  NODE_ENV: z
    .enum(['development', 'production', 'test'], { error: 'should be development, production or test' })
    .default('development'),
  DRY_RUN: flag().default(false),
  ALLOW_DEBUG_ENDPOINTS: flag().default(false),
  DASHBOARD_TOKEN: z.string().optional(),
  ALLOW_UNVERIFIED_WEBHOOKS: flag().optional(),
  BODY_LIMIT_MB: positive(10),
  CALENDLY_SIGNING_KEY: signingKeys,
  CALENDLY_TOLERANCE_S: whole(300),
  CALENDLY_API_TOKEN: z.string().optional(),
  READAI_SIGNING_KEY: base64Keys,
  READAI_SHARED_SECRET: z.string().optional(),
  ZOHO_DC: z
    .enum(Object.keys(DATA_CENTRES) as [DataCentre, ...DataCentre[]], {
      error: `should be one of ${Object.keys(DATA_CENTRES).join(', ')}`,
    })
    .default('com'),
  ZOHO_CLIENT_ID: z.string().optional(),
  ZOHO_CLIENT_SECRET: z.string().optional(),
  ZOHO_REFRESH_TOKEN: z.string().optional(),
  ZOHO_ACCOUNTS_URL: httpUrl.optional(),
  ZOHO_API_URL: httpUrl.optional(),
  ZOHO_FIELD_MAP: z.string().optional(),
  GEMINI_API_KEY: z.string().optional(),
  GEMINI_MODEL: z
    .string()
    .regex(/^[\w./-]+$/, 'should be a model name such as gemini-3.5-flash-lite')
    .default('gemini-3.5-flash-lite'),
  GEMINI_BASE_URL: httpUrl.optional(),
  SLACK_BOT_TOKEN: z.string().optional(),
  SLACK_CHANNEL: z.string().optional(),
  SLACK_API_URL: httpUrl.optional(),
  INTERNAL_DOMAINS: domains,
  SPOOL_DIR: z.string().optional(),
  SPOOL_MAX_MB: positive(1024),
  VISIBILITY_TIMEOUT_MS: whole(10_000, { min: 20, max: CLAIM_MS_MAX }),
  MAX_ATTEMPTS: whole(6),
  RETRY_BASE_MS: anyWhole().optional(),
  RETRY_MAX_MS: whole(300_000),
  OUTAGE_GIVE_UP_HOURS: positive(24),
  SHUTDOWN_GRACE_MS: whole(25_000, { min: 0, max: GRACE_MS_MAX }),
  IDEMPOTENCY_TTL_DAYS: positive(30, DAYS_MAX),
  RETENTION_DAYS: positive(90, DAYS_MAX),
});

export type Config = ReturnType<typeof parseConfig>;

/** Reads `.env` where there is one (the real environment wins) and parses the whole. Throws `ConfigError`. */
export function loadConfig(env: NodeJS.ProcessEnv = process.env) {
  if (env === process.env && existsSync('.env')) process.loadEnvFile('.env');
  return parseConfig(env);
}

/** Parses an environment. Throws `ConfigError` naming every variable that is wrong, and no value. */
export function parseConfig(env: NodeJS.ProcessEnv) {
  // A secret that comes from a file often ends in a line break, which no header can carry.
  const given = Object.fromEntries(
    Object.entries(env).flatMap(([name, value = '']) => (value.trim() === '' ? [] : [[name, value.trim()]])),
  );
  const parsed = schema.safeParse(given);
  if (!parsed.success) {
    throw configError(parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`));
  }
  const settings = parsed.data;
  const isProduction = settings.NODE_ENV === 'production';
  const problems = findContradictions(settings);
  if (problems.length > 0) throw configError(problems);

  return {
    isProduction,
    port: settings.PORT,
    workerPort: settings.WORKER_PORT,
    baseUrl: settings.BASE_URL,
    redisUrl: settings.REDIS_URL ?? findEmbeddedRedis(isProduction),
    keyPrefix: settings.KEY_PREFIX,
    logLevel: settings.LOG_LEVEL,
    dryRun: settings.DRY_RUN,
    allowDebug: settings.ALLOW_DEBUG_ENDPOINTS,
    dashboardTokens: parseDashboardTokens(settings.DASHBOARD_TOKEN),
    allowUnverified: settings.ALLOW_UNVERIFIED_WEBHOOKS ?? !isProduction,
    bodyLimitBytes: Math.floor(settings.BODY_LIMIT_MB * 1024 * 1024),
    calendly: {
      signingKeys: settings.CALENDLY_SIGNING_KEY,
      toleranceS: settings.CALENDLY_TOLERANCE_S,
      apiToken: settings.CALENDLY_API_TOKEN,
    },
    readai: { signingKeys: settings.READAI_SIGNING_KEY, sharedSecret: settings.READAI_SHARED_SECRET },
    zoho: parseZoho(settings),
    gemini:
      settings.GEMINI_API_KEY === undefined
        ? undefined
        : { apiKey: settings.GEMINI_API_KEY, model: settings.GEMINI_MODEL, baseUrl: settings.GEMINI_BASE_URL },
    slack:
      settings.SLACK_BOT_TOKEN === undefined || settings.SLACK_CHANNEL === undefined
        ? undefined
        : { token: settings.SLACK_BOT_TOKEN, channel: settings.SLACK_CHANNEL, apiUrl: settings.SLACK_API_URL },
    internalDomains: settings.INTERNAL_DOMAINS,
    spool:
      settings.SPOOL_DIR === undefined
        ? undefined
        : { dir: settings.SPOOL_DIR, bytesMax: Math.floor(settings.SPOOL_MAX_MB * 1024 * 1024) },
    work: {
      visibilityTimeoutMs: settings.VISIBILITY_TIMEOUT_MS,
      attemptsMax: settings.MAX_ATTEMPTS,
      retryBaseMs: settings.RETRY_BASE_MS ?? Math.min(RETRY_BASE_MS, settings.RETRY_MAX_MS),
      retryMaxMs: settings.RETRY_MAX_MS,
      outageGiveUpMs: settings.OUTAGE_GIVE_UP_HOURS * 3_600_000,
      shutdownGraceMs: settings.SHUTDOWN_GRACE_MS,
    },
    idempotencyTtlS: Math.max(1, Math.round(settings.IDEMPOTENCY_TTL_DAYS * 86_400)),
    retentionMs: Math.max(1, Math.round(settings.RETENTION_DAYS * 86_400_000)),
  };
}

function configError(lines: readonly string[]): ConfigError {
  return new ConfigError(`The settings cannot be used:\n${lines.map((line) => `  ${line}`).join('\n')}`);
}

type Settings = z.infer<typeof schema>;

function findContradictions(settings: Settings): string[] {
  const problems: string[] = [];
  if (settings.RETENTION_DAYS < settings.IDEMPOTENCY_TTL_DAYS) {
    problems.push('RETENTION_DAYS: should be at least IDEMPOTENCY_TTL_DAYS');
  }
  if (settings.RETRY_MAX_MS < (settings.RETRY_BASE_MS ?? 0))
    problems.push('RETRY_MAX_MS: should be at least RETRY_BASE_MS');
  if (settings.REDIS_URL?.startsWith('redis-cluster:') && !/\{[^}]+\}/.test(settings.KEY_PREFIX)) {
    problems.push('KEY_PREFIX: should hold a hash tag such as {gvi}: when REDIS_URL names a cluster');
  }
  if (settings.DASHBOARD_TOKEN?.split(',').some((item) => !/^([^:]+:.+|[^:]+)$/.test(item.trim()))) {
    problems.push('DASHBOARD_TOKEN: should be a token, or name:token, several separated by commas');
  }
  const isProduction = settings.NODE_ENV === 'production';
  if (isProduction && settings.READAI_SIGNING_KEY.some((key) => bytesOf(key) < KEY_BYTES_MIN)) {
    problems.push(`READAI_SIGNING_KEY: should decode to at least ${KEY_BYTES_MIN} bytes in production`);
  }
  const zohoParts = [settings.ZOHO_CLIENT_ID, settings.ZOHO_CLIENT_SECRET, settings.ZOHO_REFRESH_TOKEN];
  const zohoGiven = zohoParts.filter((part) => part !== undefined).length;
  if (zohoGiven > 0 && zohoGiven < 3) {
    problems.push('ZOHO_CLIENT_ID, ZOHO_CLIENT_SECRET, ZOHO_REFRESH_TOKEN: should be set together');
  }
  if ((settings.SLACK_BOT_TOKEN === undefined) !== (settings.SLACK_CHANNEL === undefined)) {
    problems.push('SLACK_BOT_TOKEN, SLACK_CHANNEL: should be set together');
  }
  return problems;
}

function parseZoho(settings: Settings) {
  const centre = DATA_CENTRES[settings.ZOHO_DC];
  const { ZOHO_CLIENT_ID: clientId, ZOHO_CLIENT_SECRET: clientSecret, ZOHO_REFRESH_TOKEN: refreshToken } = settings;
  return {
    dataCentre: settings.ZOHO_DC,
    accountsUrl: settings.ZOHO_ACCOUNTS_URL ?? centre.accountsUrl,
    apiUrl: settings.ZOHO_API_URL ?? centre.apiUrl,
    /** Set by hand: then the token reply's `api_domain` does not count. */
    apiUrlIsFixed: settings.ZOHO_API_URL !== undefined,
    credentials:
      clientId !== undefined && clientSecret !== undefined && refreshToken !== undefined
        ? { clientId, clientSecret, refreshToken }
        : undefined,
    fieldMap: parseFieldMap(settings.ZOHO_FIELD_MAP),
  };
}

function parseFieldMap(text: string | undefined): FieldMap {
  if (text === undefined) return {};
  const map = readFieldMap(text);
  if (map === undefined) {
    throw configError([
      'ZOHO_FIELD_MAP: should be JSON, or the path of a JSON file, such as {"company":{"field":"Company","owner":"person"}}',
    ]);
  }
  const unknown = Object.keys(map).flatMap((ours, index) => (LEAD_FIELDS.includes(ours) ? [] : [index + 1]));
  if (unknown.length === 0) return map;
  // By its place, as what stands there is of the value.
  throw configError([
    `ZOHO_FIELD_MAP: should name our fields alone, and its number ${unknown.join(', ')} is none of ${LEAD_FIELDS.join(', ')}`,
  ]);
}

function readFieldMap(text: string): FieldMap | undefined {
  try {
    return fieldMap.parse(JSON.parse(text.trimStart().startsWith('{') ? text : readFileSync(text, 'utf8')));
  } catch {
    return undefined;
  }
}

export type DashboardToken = { name: string; token: string };

function parseDashboardTokens(text: string | undefined): DashboardToken[] {
  return (text ?? '')
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '')
    .map((item) => {
      const colon = item.indexOf(':');
      return colon > 0
        ? { name: item.slice(0, colon), token: item.slice(colon + 1) }
        : { name: 'operator', token: item };
    });
}

function findEmbeddedRedis(isProduction: boolean): string {
  const found = isProduction ? undefined : readEmbeddedRedis();
  if (found !== undefined) return found;
  throw configError([
    isProduction
      ? 'REDIS_URL: should be set in production'
      : 'REDIS_URL: should be set, or start ./scripts/dev first: it runs a Redis of its own and this process finds it',
  ]);
}

function readEmbeddedRedis(): string | undefined {
  try {
    const found: unknown = JSON.parse(readFileSync(EMBEDDED_REDIS_FILE, 'utf8'));
    return z.object({ redisUrl: z.string() }).parse(found).redisUrl;
  } catch {
    return undefined;
  }
}
