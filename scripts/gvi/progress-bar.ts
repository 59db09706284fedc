/** Shows a person at a terminal how far a long command is; in a pipe and with `--json` it draws nothing. */
export type ProgressBar = {
  /** `share` of the whole, 0 to 1, where no total is known. */
  add: (count: number, share?: number) => void;
  /** A line for the person, also where no bar is drawn. */
  say: (line: string) => void;
  end: () => void;
};

const WIDTH = 30;
const EVERY_MS = 100;
const ERASE_LINE = '\r\x1b[K';

/** `total` may be wrong where entries come meanwhile; the bar never goes beyond its end. */
export function startProgressBar(
  label: string,
  total: number | undefined,
  { isJson }: { isJson: boolean },
): ProgressBar {
  const isDrawn = process.stderr.isTTY && !isJson;
  let done = 0;
  let share = 0;
  let drawnAt = 0;
  const draw = () => {
    if (!isDrawn) return;
    const bar = '#'.repeat(Math.round(share * WIDTH)).padEnd(WIDTH, '-');
    const count = done.toLocaleString('en');
    const of = total === undefined ? 'entries' : `of ${Math.max(done, total).toLocaleString('en')}`;
    process.stderr.write(`\r${label} [${bar}] ${Math.floor(share * 100)} % ${count} ${of}`);
  };
  return {
    add(count, ofAll) {
      done += count;
      share = ofAll ?? Math.min(1, done / (total || 1));
      if (Date.now() - drawnAt < EVERY_MS) return;
      drawnAt = Date.now();
      draw();
    },
    say(line) {
      process.stderr.write(`${isDrawn ? ERASE_LINE : ''}${line}\n`);
      draw();
    },
    end() {
      if (total === 0) share = 1;
      draw();
      if (isDrawn) process.stderr.write('\n');
    },
  };
}
