/** A history of events in which everything happens that may happen, the same for the same seed. */
import { readOpenFailures } from '../../src/lib/open-failures.js';
import { makeRedrive } from '../../src/lib/redrive.js';
import { replay as replayRange } from '../../src/lib/replay.js';
import { trim as trimStreams } from '../../src/lib/trim.js';
import { projections } from '../../src/projections/index.js';
import type { Behaviour, History } from './history.js';
import { waitFor } from './wait-for.js';

/** A linear congruential generator: the same history for the same seed. */
export function makeRandom(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** All that may happen to events, in no tidy order; `trims`: what is done is dropped now and then. */
export async function live(history: History, seed: number, steps: number, { trims = false } = {}): Promise<void> {
  const random = makeRandom(seed);
  const behaviours: Behaviour[] = ['', '', '', 'flaky', 'refused', 'crmrefused'];
  const meetings = ['', '', '', 'crmrefused'];
  for (let i = 0; i < steps; i += 1) {
    const kind = random(20);
    if (kind < 9) await history.book(`${seed}p${random(steps)}`, behaviours[random(6)]!);
    else if (kind < 12)
      await history.meet(`${meetings[random(4)]}${seed}m${random(8)}`, `${random(5)}`, `q${random(steps)}`);
    else if (kind === 12) await history.reject(`{${seed} ${random(20)}`);
    else if (kind === 13) await writeUnreadable(history);
    else if (kind === 14) history.stage.isMended = !history.stage.isMended;
    else if (kind === 15) history.stage.outcome = history.stage.outcome === 'written' ? 'dry_run' : 'written';
    else if (kind < 18) await redriveOne(history, random);
    else if (kind === 18) await replaySome(history, random);
    else if (trims) await trimDone(history);
  }
  history.stage.isMended = false;
}

async function redriveOne(history: History, random: (below: number) => number): Promise<void> {
  const failures = await readOpenFailures(history);
  const failure = failures[random(Math.max(1, failures.length))];
  if (failure !== undefined) await makeRedrive(history)(failure);
}

async function replaySome(history: History, random: (below: number) => number): Promise<void> {
  const groups = ['enrich', 'summarize', 'crm-sync'] as const;
  const entries = await history.redis.xrange(history.keys.stream('events:calendly'), '-', '+');
  const from = entries[random(Math.max(1, entries.length))]?.[0] ?? '-';
  await replayRange(
    history,
    {
      group: groups[random(3)]!,
      from,
      to: '+',
      isForced: random(2) === 0,
      takesDryRuns: true,
      replayId: `r${random(1e6)}`,
    },
    { isDryRun: false },
  );
}

async function writeUnreadable(history: History): Promise<void> {
  await history.redis.xadd(history.keys.stream('events:calendly'), '*', 'type', 'calendly.invitee.created', 'v', '1');
}

/** As if the retention were over for all that is older than a moment. */
export function trimDone(history: History): Promise<unknown> {
  const retentionMs = 1_000_000_000;
  return trimStreams(
    { ...history, projections, retentionMs, now: Date.now() + retentionMs - 200 },
    { isDryRun: false },
  );
}

/** Waits until nothing is left to do, and the projections are at the ends of the streams. */
export async function quiet(history: History): Promise<void> {
  const { redis, keys } = history;
  await waitFor(
    'the pipeline to be idle',
    async () => {
      for (const [stream, group] of [
        ...[['events:calendly', 'enrich'] as const, ['events:readai', 'summarize'] as const],
        ...[['events:enriched', 'crm-sync'] as const, ['events:summarized', 'crm-sync'] as const],
        ['events:failed', 'alert'] as const,
      ]) {
        // At once: what is put off meanwhile would be seen neither here nor there.
        const found = await redis
          .multi()
          .zcard(keys.parked(group))
          .xpending(keys.stream(stream), group)
          .xinfo('GROUPS', keys.stream(stream))
          .xrevrange(keys.stream(stream), '+', '-', 'COUNT', 1)
          .exec();
        const [parked, [pending], infos, [last]] = found!.map(([, reply]) => reply) as [
          ...[number, [number], unknown[][], [id: string, fields: string[]][]],
        ];
        const isRead = last === undefined || infos.some((info) => info.includes(last[0]));
        if (parked > 0 || pending > 0 || !isRead) return false;
      }
      return true;
    },
    30_000,
  );
  await history.projected();
}
