/** Tells a person at a terminal how far a long command is; in a pipe and with `--json` it says nothing. */
export type ProgressBar = { add: (count: number) => void; end: () => void };

const WIDTH = 30;
const EVERY_MS = 100;

/** `total` may be wrong where entries come meanwhile; the bar never goes beyond its end. */
export function startProgressBar(label: string, total: number): ProgressBar {
  let done = 0;
  let drawnAt = 0;
  const draw = () => {
    if (!process.stderr.isTTY) return;
    const share = total === 0 ? 1 : Math.min(1, done / total);
    const bar = '#'.repeat(Math.round(share * WIDTH)).padEnd(WIDTH, '-');
    const count = `${done.toLocaleString('en')} of ${Math.max(done, total).toLocaleString('en')}`;
    process.stderr.write(`\r${label} [${bar}] ${Math.floor(share * 100)} % ${count}`);
  };
  return {
    add(count) {
      done += count;
      if (Date.now() - drawnAt < EVERY_MS) return;
      drawnAt = Date.now();
      draw();
    },
    end() {
      draw();
      if (process.stderr.isTTY) process.stderr.write('\n');
    },
  };
}
