// Runs beside the event loop and ends the process when that hangs: a heartbeat that is missed costs a claim, but a loop that
// never comes back would keep its process for ever. Plain JavaScript, so that the thread needs no loader.
import { writeSync } from 'node:fs';
import { workerData } from 'node:worker_threads';

const { beats, boundMs, tickMs } = workerData;
const beat = new Int32Array(beats);
let seen = Atomics.load(beat, 0);
let silentMs = 0;
let tickedAt = performance.now();

setInterval(() => {
  const now = performance.now();
  // Where the whole process was stopped this thread was too: that time says nothing of the event loop.
  const passedMs = Math.min(now - tickedAt, 2 * tickMs);
  tickedAt = now;
  const current = Atomics.load(beat, 0);
  silentMs = current === seen ? silentMs + passedMs : 0;
  seen = current;
  if (silentMs < boundMs) return;
  const line = { level: 60, time: Date.now(), pid: process.pid, name: 'worker', silentMs: Math.round(silentMs) };
  try {
    writeSync(1, `${JSON.stringify({ ...line, msg: 'the event loop hangs; the process ends itself' })}\n`);
  } finally {
    process.kill(process.pid, 'SIGKILL');
  }
}, tickMs);
