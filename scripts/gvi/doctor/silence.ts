import type { StreamName } from '../../../src/lib/event-id.js';
import { streamIdTime } from '../../../src/lib/event-id.js';
import { formatDuration } from '../format.js';
import { type DoctorContext, type Found, ok, warning } from './check.js';

const SILENT_MS = 7 * 86_400_000;

/** When a source was last heard of: a webhook that was switched off says nothing of it. */
export async function inspectSilence(
  { redis, keys }: DoctorContext,
  { stream, source, fix }: { stream: StreamName; source: string; fix: string },
): Promise<Found> {
  const [[newest], [seconds]] = await Promise.all([
    redis.xrevrange(keys.stream(stream), '+', '-', 'COUNT', 1),
    redis.time(),
  ]);
  if (newest === undefined) return warning(`No event of ${source} is there, now or lately`, fix);
  const ageMs = Math.max(0, Number(seconds) * 1000 - streamIdTime(newest[0]));
  return ageMs > SILENT_MS
    ? warning(`${source} has sent nothing for ${Math.floor(ageMs / 86_400_000)} days`, fix)
    : ok(`The last event of ${source} came ${formatDuration(ageMs)} ago`);
}
