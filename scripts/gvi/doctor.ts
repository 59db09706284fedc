/** Is everything as it should be? The settings, Redis, the groups and every provider, live. */
import type { RedisClient } from '../../src/lib/redis.js';
import { type Command, type CommandContext, parseCommandLine } from './command.js';
import { calendly, calendlySilence } from './doctor/calendly.js';
import {
  type Check,
  type DoctorContext,
  describeFailure,
  type Finding,
  type Found,
  type Level,
  problem,
  runCheck,
  within,
} from './doctor/check.js';
import { gemini } from './doctor/gemini.js';
import { pipeline } from './doctor/pipeline.js';
import { readai, readaiSilence } from './doctor/readai.js';
import { redis } from './doctor/redis.js';
import { settings } from './doctor/settings.js';
import { slack } from './doctor/slack.js';
import { zoho } from './doctor/zoho.js';
import { showLine } from './format.js';

const CHECKS: readonly Check[] = [
  ...[settings, redis, pipeline, calendly, calendlySilence, readai, readaiSilence],
  ...[gemini, zoho, slack],
];

const PING_MS = 5_000;

/** `--calendly-api-url` is for tests: another host than Calendly's. */
export const doctor: Command = {
  name: 'doctor',
  usage: 'doctor',
  summary: 'settings, Redis durability, every provider, live; each finding with its fix',
  async run(argv, context) {
    const options = { 'calendly-api-url': { type: 'string' } } as const;
    const { values } = parseCommandLine(doctor, argv, options, { isBare: true });
    const findings = await examine({ ...context, calendlyApiUrl: values['calendly-api-url'] });
    if (values.json) context.print(JSON.stringify(findings));
    else report(context, findings);
    return findings.some(({ level }) => level === 'problem') ? 1 : 0;
  },
};

/** All findings, in the order of the checks. Never throws. */
export async function examine(context: DoctorContext): Promise<Finding[]> {
  const fault = await findRedisFault(context.redis);
  const checks = fault === undefined ? CHECKS : CHECKS.map((check) => (check === redis ? telling(fault) : check));
  const found = await Promise.all(checks.map((check) => runCheck(check, context, { isRedisUp: fault === undefined })));
  return found.flat();
}

function telling(fault: Found): Check {
  return { ...redis, needsRedis: false, run: () => [fault] };
}

async function findRedisFault(client: RedisClient): Promise<Found | undefined> {
  try {
    await within(PING_MS, () => client.ping());
    return undefined;
  } catch (error) {
    const isRefusal = error instanceof Error && error.name === 'ReplyError';
    return isRefusal
      ? describeFailure(error)
      : problem('Redis is not reachable', 'start it, or set REDIS_URL to where it is');
  }
}

const LABELS: Record<Level, string> = { ok: 'ok', warning: 'WARNING', problem: 'PROBLEM' };

function report({ print }: CommandContext, findings: readonly Finding[]): void {
  let last = '';
  for (const { check, level, finding, fix } of findings) {
    if (check !== last) print(last === '' ? check : `\n${check}`);
    last = check;
    print(`  ${LABELS[level].padEnd(8)} ${showLine(finding)}`);
    if (fix !== undefined) print(`           → ${showLine(fix)}`);
  }
  const count = (level: Level) => findings.filter((found) => found.level === level).length;
  print(`\nproblems: ${count('problem')}, warnings: ${count('warning')}`);
}
