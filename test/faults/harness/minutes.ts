/** Alerts beyond the first few of a minute wait for the next one; the suite has no time for that. */
import type { World } from './world.js';

const EVERY_MS = 300;

/** Lets the minutes of the alerts pass quickly until the function that it returns is called. */
export function hurryMinutes(world: World): () => void {
  const timer = setInterval(() => void passMinute(world).catch(() => {}), EVERY_MS);
  return () => clearInterval(timer);
}

async function passMinute({ client, keys }: World): Promise<void> {
  const budgets = await client.keys(`${keys.lease('alerts')}:*`);
  if (budgets.length > 0) await client.del(budgets);
  for (const eventId of await client.zrange(keys.parked('alert'), '0', '-1')) {
    await client.zadd(keys.parked('alert'), 'XX', 1, eventId);
  }
}
