/**
 * The worker as it is, but for its consumers: events may say what is done to it (`poisoned-consumers.ts`). A hanging event loop
 * ends it after `GUARD_MS`; not while the worker's code is loaded, which takes its time on a busy machine.
 */
import { register } from 'node:module';
import { guardEventLoop } from '../../../src/lib/runtime/event-loop-guard.js';

const stand = new URL('./poisoned-consumers.js', import.meta.url).href;
const hooks = `export async function resolve(specifier, context, next) {
  const isAsked = specifier === './index.js' && context.parentURL?.endsWith('/src/consumers/main.js');
  return isAsked ? { url: ${JSON.stringify(stand)}, shortCircuit: true } : next(specifier, context);
}`;
register(`data:text/javascript,${encodeURIComponent(hooks)}`);

await import('../../../src/consumers/main.js');

guardEventLoop(Number(process.env.GUARD_MS ?? 30_000));
