/** The worker as it is, whose event loop stands still for `BURN_MS` at SIGUSR2, as that of one that computes does. */
import '../../../src/consumers/main.js';

const cell = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));

process.on('SIGUSR2', () => {
  Atomics.wait(cell, 0, 0, Number(process.env.BURN_MS));
});
