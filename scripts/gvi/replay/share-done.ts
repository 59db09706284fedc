/**
 * How far through its range a replay is, by the time of the entry that it has come to: to count the range beforehand would
 * mean to read all of it.
 */
import { parseEventId, streamIdTime } from '../../../src/lib/event-id.js';
import { streamsOf } from '../../../src/lib/events.js';
import type { ReplayRange } from '../../../src/lib/replay.js';
import type { CommandContext } from '../command.js';

export type ShareDone = (eventId: string) => number;

/** Streams are gone through one after the other; each counts for as much as it is long. */
export async function makeShareDone({ redis, keys }: CommandContext, range: ReplayRange): Promise<ShareDone> {
  const { from, to } = range;
  const parts = await Promise.all(
    streamsOf(range.group).map(async (stream) => {
      const key = keys.stream(stream);
      const [[first], [last], length] = await Promise.all([
        redis.xrange(key, from, to, 'COUNT', 1),
        redis.xrevrange(key, to, from, 'COUNT', 1),
        redis.xlen(key),
      ]);
      const ends = { start: streamIdTime(first?.[0] ?? '0-0'), end: streamIdTime(last?.[0] ?? '0-0') };
      return { stream, ...ends, weight: first === undefined ? 0 : length };
    }),
  );
  const whole = parts.reduce((sum, { weight }) => sum + weight, 0);

  return (eventId) => {
    const ref = parseEventId(eventId);
    let before = 0;
    for (const { stream, start, end, weight } of parts) {
      if (stream !== ref?.stream) before += weight;
      else {
        const passed = end === start ? 1 : (streamIdTime(ref.id) - start) / (end - start);
        return Math.min(1, (before + weight * Math.min(1, passed)) / (whole || 1));
      }
    }
    return 1;
  };
}
