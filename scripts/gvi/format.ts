/** How `gvi` lays out what it prints. */

/** Columns as wide as their widest cell; numbers to the right. A cell is one line, whatever stands in it. */
export function formatTable(header: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const all = [header, ...rows.map((row) => row.map((cell) => (typeof cell === 'number' ? cell : showLine(cell))))];
  const widths = header.map((_, column) => Math.max(...all.map((row) => String(row[column] ?? '').length)));
  return all
    .map((row) =>
      row
        .map((cell, column) =>
          typeof cell === 'number' ? String(cell).padStart(widths[column]!) : String(cell).padEnd(widths[column]!),
        )
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

export function formatDuration(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 120_000) return `${(ms / 1_000).toFixed(1)} s`;
  if (ms < 7_200_000) return `${Math.round(ms / 60_000)} min`;
  return `${(ms / 3_600_000).toFixed(1)} h`;
}

/**
 * What a sender chose must not steer the terminal: control characters and those that turn the direction of writing are
 * printed as JSON writes them, which in JSON changes nothing.
 */
export function showControls(text: string): string {
  return text.replace(/[^\P{C}\n]/gu, asJson);
}

/** Line breaks as well: what somebody else chose must not look like a line of ours. */
export function showLine(text: string): string {
  return text.replace(/\p{C}/gu, asJson);
}

function asJson(char: string): string {
  return Array.from({ length: char.length }, (_, i) => `\\u${char.charCodeAt(i).toString(16).padStart(4, '0')}`).join(
    '',
  );
}

/** What goes wrong may quote what a sender chose, too. */
export function printError(text: string): void {
  process.stderr.write(`${showControls(text)}\n`);
}
