/** Sends webhooks as Calendly and Read.ai do, and notes what came of each. */
import { setTimeout as sleep } from 'node:timers/promises';
import { calendlySignature, readaiSignature } from '../../helpers/webhooks.js';
import type { Answer, Outcome } from './history.js';
import type { Part } from './parts.js';
import { sized } from './scenario.js';
import type { Delivery } from './stories.js';
import type { World } from './world.js';

export type RunOptions = {
  /** So many at once; as fast as the answers come [8]. */
  concurrency?: number;
  /** So many a second, however long the answers take; then `concurrency` does not count. */
  ratePerS?: number;
  /** Deliveries of one such name are sent one after the other. */
  inOrderOf?: (delivery: Delivery) => string;
  /** Sends again what failed or is unknown, as the providers do, until it is taken in [true]. */
  sendsAgain?: boolean;
  /** Ends early. */
  signal?: AbortSignal;
};

/** Much longer than any answer may take, as the machine may have no time for it: what hangs, hangs. */
const TIMEOUT_MS = 15_000;
/** As providers do: soon at first, then less often. */
const AGAIN_MS = 150;
const AGAIN_MS_MAX = 1_500;
const AGAIN_FACTOR = 1.5;
/** All together no more often than this: thousands that wait for a Redis to return must not take its proxies' time. */
const AGAIN_PER_S_MAX = sized(60, 150);
/** Longer than anything is away. */
const GIVE_UP_MS = 180_000;

/** One HTTP request. It never rejects. */
export async function send(world: World, delivery: Delivery, ingest: Part = anyIngest(world)): Promise<Outcome> {
  const at = Date.now();
  const found = await post(ingest.url, delivery);
  const outcome = { ...found, at, ms: Date.now() - at, ingest: ingest.name };
  world.history.add({ delivery, outcome });
  return outcome;
}

/** How many deliveries wait to be sent again. */
let waiting = 0;

/** Sends until a 2xx comes. Throws when none comes in three minutes. */
export async function sendUntilTaken(world: World, delivery: Delivery, signal?: AbortSignal): Promise<Outcome> {
  const startedAt = performance.now();
  for (let waitMs = AGAIN_MS; ; waitMs = Math.min(waitMs * AGAIN_FACTOR, AGAIN_MS_MAX)) {
    const outcome = await send(world, delivery);
    if (outcome.kind === 'ok' || signal?.aborted) return outcome;
    if (performance.now() - startedAt > GIVE_UP_MS) {
      throw new Error(`${delivery.key} was not taken in: ${outcome.status ?? outcome.error}`);
    }
    waiting += 1;
    await sleep(Math.max(waitMs, (waiting * 1_000) / AGAIN_PER_S_MAX), undefined, { signal }).catch(() => {});
    waiting -= 1;
  }
}

/** Sends all of them, in order of their beginning. Resolves when each has its answer. */
export async function run(world: World, deliveries: readonly Delivery[], options: RunOptions = {}): Promise<void> {
  const { concurrency = 8, ratePerS, inOrderOf, sendsAgain = true, signal } = options;
  const sendOne = (delivery: Delivery) =>
    sendsAgain ? sendUntilTaken(world, delivery, signal) : send(world, delivery);
  const one = inOrderOf === undefined ? sendOne : oneAfterTheOther(inOrderOf, sendOne);
  const rest = [...deliveries];
  if (ratePerS !== undefined) return runAtRate(rest, ratePerS, one, signal);
  const lanes = Array.from({ length: concurrency }, async () => {
    for (let next = rest.shift(); next !== undefined && !signal?.aborted; next = rest.shift()) await one(next);
  });
  await Promise.all(lanes);
}

function oneAfterTheOther(
  nameOf: (delivery: Delivery) => string,
  sendOne: (delivery: Delivery) => Promise<unknown>,
): (delivery: Delivery) => Promise<unknown> {
  const last = new Map<string, Promise<unknown>>();
  return (delivery) => {
    const name = nameOf(delivery);
    const sent = (last.get(name) ?? Promise.resolve()).then(() => sendOne(delivery));
    last.set(name, sent);
    return sent;
  };
}

async function runAtRate(
  rest: readonly Delivery[],
  ratePerS: number,
  one: (delivery: Delivery) => Promise<unknown>,
  signal: AbortSignal | undefined,
): Promise<void> {
  const startedAt = performance.now();
  const underWay: Promise<unknown>[] = [];
  for (const [index, delivery] of rest.entries()) {
    const waitMs = startedAt + (index * 1_000) / ratePerS - performance.now();
    if (waitMs > 1) await sleep(waitMs);
    if (signal?.aborted) break;
    underWay.push(one(delivery));
  }
  await Promise.all(underWay);
}

function anyIngest(world: World): Part {
  const ingests = world.ingests();
  const ready = ingests.filter((part) => part.isReady());
  return ready[world.history.sent.length % ready.length] ?? ingests[0]!;
}

async function post(
  url: string,
  { source, body }: Delivery,
): Promise<Pick<Outcome, 'kind' | 'status' | 'answer' | 'error'>> {
  const headers: Record<string, string> =
    source === 'calendly'
      ? { 'calendly-webhook-signature': calendlySignature(body) }
      : { 'x-read-signature': readaiSignature(body) };
  try {
    const response = await fetch(`${url}/webhooks/${source}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body,
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    const { status } = response;
    const answer = (await response.json()) as Answer;
    return { kind: status < 300 ? 'ok' : status < 500 ? 'fail' : 'unknown', status, answer };
  } catch (error) {
    const code = codeOf(error);
    return { kind: code === 'ECONNREFUSED' ? 'fail' : 'unknown', error: code };
  }
}

function codeOf(error: unknown): string {
  const { cause, name } = error as Error & { cause?: NodeJS.ErrnoException };
  return cause?.code ?? name;
}
