/** The benchmarks: `npm run bench [-- name]`. They print figures and assert nothing. */
import { benchCost } from './cost.js';
import { benchPending } from './pending.js';
import { benchReplay } from './replay.js';

const BENCHES: Record<string, (args: readonly string[]) => Promise<void>> = {
  cost: benchCost,
  pending: benchPending,
  replay: benchReplay,
};

const [name, ...args] = process.argv.slice(2);
if (name !== undefined && !(name in BENCHES)) {
  console.error(`There is no benchmark ${name}: ${Object.keys(BENCHES).join(', ')}`);
  process.exit(2);
}
for (const bench of name === undefined ? Object.values(BENCHES) : [BENCHES[name]!]) await bench(args);
process.exit(0);
