/**
 * The worker as it is, but for its consumers: events may say what is done to it (`poisoned-consumers.ts`, which stands for
 * `src/consumers/index.ts` in the bundle of this script). A hanging event loop ends it after `GUARD_MS`; not while the worker's
 * code is loaded, which takes its time on a busy machine.
 */
import '../../../src/consumers/main.js';
import { guardEventLoop } from '../../../src/lib/runtime/event-loop-guard.js';

guardEventLoop(Number(process.env.GUARD_MS ?? 30_000));
