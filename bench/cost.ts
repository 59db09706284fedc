/**
 * What the pipeline costs Redis for an event under a backlog: commands (those inside scripts counted) over two stages and
 * the processed mark, and memory that stays. `npm run bench -- cost [events]`
 */
import { randomUUID } from 'node:crypto';
import { fixture, startPipeline } from '../test/helpers/pipeline.js';
import { startRedis } from '../test/helpers/redis-server.js';
import { waitFor } from '../test/helpers/wait-for.js';
import { startZoho } from '../test/standins/zoho.js';

const EVENTS = 2_000;

type Stats = { commands: Map<string, number>; memory: number };

export async function benchCost(args: readonly string[]): Promise<void> {
  const events = Number(args[0] ?? EVENTS);
  for (const mode of ['dry run', 'sandbox'] as const) {
    const server = await startRedis();
    const redis = server.connect();
    const zoho = mode === 'sandbox' ? await startZoho() : undefined;
    const idle = await startPipeline({ redisUrl: server.url, keyPrefix: '', workers: 0, ...(zoho && { zoho }) });
    const base = await readStats();
    const body = fixture('calendly_invitee_created.json');
    const bytes = Buffer.byteLength(JSON.stringify(body));
    for (let i = 0; i < events; i += 1) {
      const id = randomUUID();
      await idle.send('calendly', {
        ...body,
        payload: {
          ...body.payload,
          uri: `https://api.calendly.com/scheduled_events/E/invitees/${id}`,
          email: `${id}@northwind.example`,
        },
      });
    }
    const appended = await readStats();
    await idle.stop();
    const startedAt = performance.now();
    const pipeline = await startPipeline({
      ...{
        redisUrl: server.url,
        keyPrefix: '',
        env: { DRY_RUN: String(zoho === undefined), VISIBILITY_TIMEOUT_MS: '10000' },
      },
      ...(zoho && { zoho }),
    });
    await waitFor('the backlog to be done', async () => (await redis.xlen('events:synced')) >= events, 120_000);
    const ms = performance.now() - startedAt;
    const done = await readStats();
    await waitFor('the projection', async () => {
      const [last] = await redis.xrevrange('events:synced', '+', '-', 'COUNT', 1);
      return (await redis.hget('projector:lead', 'events:synced')) === last?.[0];
    });
    const settled = await readStats();
    report(mode, { events, bytes, ms, base, appended, done, settled });
    await pipeline.stop();
    await zoho?.stop();
    await server.stop();

    async function readStats(): Promise<Stats> {
      const text = await redis.info('commandstats');
      const commands = new Map(
        [...text.matchAll(/^cmdstat_([^:]+):calls=(\d+)/gm)].map(([, name, calls]) => [name!, Number(calls)]),
      );
      const memory = Number(/used_memory_dataset:(\d+)/.exec(await redis.info('memory'))![1]);
      return { commands, memory };
    }
  }
}

function report(
  mode: string,
  {
    events,
    bytes,
    ms,
    base,
    appended,
    done,
    settled,
  }: { events: number; bytes: number; ms: number } & Record<'base' | 'appended' | 'done' | 'settled', Stats>,
): void {
  const IGNORED = new Set([
    'info',
    'ping',
    'client|setinfo',
    'hello',
    'select',
    'xlen',
    'config|get',
    'auth',
    'command',
  ]);
  const spent = [...done.commands]
    .map(([name, calls]) => [name, (calls - (appended.commands.get(name) ?? 0)) / events] as const)
    .filter(([name, calls]) => !IGNORED.has(name) && calls > 0.005)
    .sort(([, a], [, b]) => b - a);
  const total = spent.reduce((sum, [, calls]) => sum + calls, 0);
  const kept = (settled.memory - base.memory) / events;
  console.log(`\n${mode}: ${events} events of ${bytes} bytes, ${Math.round((events / ms) * 1000)} events/s`);
  console.log(`  commands for an event: ${total.toFixed(2)}`);
  console.log(`    ${spent.map(([name, calls]) => `${name} ${calls.toFixed(2)}`).join(', ')}`);
  console.log(`  memory kept for an event: ${Math.round(kept)} bytes, ${(kept / bytes).toFixed(2)} × the payload`);
  console.log(`    of that after the append: ${Math.round((appended.memory - base.memory) / events)} bytes`);
}
