/** The worker as it is, which at SIGUSR2 does nothing but burn CPU for `BURN_MS`: its event loop stands still. */
process.on('SIGUSR2', () => {
  const until = Date.now() + Number(process.env.BURN_MS);
  while (Date.now() < until);
});

await import('../../../src/consumers/main.js');
