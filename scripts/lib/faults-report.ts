/** The figures of the fault suite, as its files write them one JSON line a time, and their table. */

export type Figures = {
  /** Distinct webhooks sent, requests made, and how many of those were answered with a 2xx. */
  events: number;
  requests: number;
  accepted: number;
  /** How often, by kind. */
  faults: Record<string, number>;
  lost: number;
  doubled: number;
  /** What Redis itself lost, as was expected of it, and nobody but the sender could know. */
  forgotten: number;
  /** From the end of a fault until a worker reads again, for each worker and group. */
  recoveriesMs: number[];
  /** From a worker's death until another has what it held, for each entry. */
  takeoversMs: number[];
  /** From the last fault that hit an entry until it was settled. */
  settledMs: number[];
  /** How long the suite itself stood still at the most: on a starved machine its times say nothing. */
  stallMs: number;
};

export type ReportLine = Figures & { file: string; seed: string };

const TIMES = { 'reads again': 'recoveriesMs', 'taken over': 'takeoversMs', settled: 'settledMs' } as const;
const COUNTS = ['faults', 'events', 'requests', 'lost', 'doubled', 'forgotten'] as const;
const COLUMNS = [...COUNTS, ...Object.keys(TIMES).map((name) => `${name}: p50/p99/max ms (of)`)];

/** A row for each file over all seeds, the sum of all, and the faults by kind. */
export function describeReport(lines: readonly ReportLine[]): string {
  const files = [...new Set(lines.map(({ file }) => file))];
  const rows = files.map((file) => [shortName(file), ...toCells(lines.filter((line) => line.file === file))]);
  const table = [['', ...COLUMNS], ...rows, ['all', ...toCells(lines)]];
  const widths = table[0]!.map((_, column) => Math.max(...table.map((row) => row[column]!.length)));
  const shown = table.map((row) =>
    row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!))).join('  '),
  );
  const kinds = [...countKinds(lines)].sort(([, a], [, b]) => b - a).map(([kind, count]) => `${count} × ${kind}`);
  return [...shown, '', `Faults: ${kinds.join(', ')}`].join('\n');
}

/** As in `p50 12 ms, p99 40 ms, max 41 ms (7)`. */
export function describeTimes(times: readonly number[]): string {
  return `p50 ${quantile(times, 0.5)} ms, p99 ${quantile(times, 0.99)} ms, max ${quantile(times, 1)} ms (${times.length})`;
}

function toCells(lines: readonly ReportLine[]): string[] {
  const sum = (count: (line: ReportLine) => number) => lines.reduce((total, line) => total + count(line), 0);
  const times = Object.values(TIMES).map((name) => {
    const all = lines.flatMap((line) => line[name]);
    return `${[0.5, 0.99, 1].map((share) => quantile(all, share)).join('/')} (${all.length})`;
  });
  return [
    sum(({ faults }) => Object.values(faults).reduce((total, count) => total + count, 0)),
    ...[sum(({ events }) => events), sum(({ requests }) => requests)],
    ...[sum(({ lost }) => lost), sum(({ doubled }) => doubled), sum(({ forgotten }) => forgotten), ...times],
  ].map(String);
}

function quantile(times: readonly number[], share: number): number | string {
  const sorted = [...times].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? '–';
}

function countKinds(lines: readonly ReportLine[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { faults } of lines) {
    for (const [kind, count] of Object.entries(faults)) counts.set(kind, (counts.get(kind) ?? 0) + count);
  }
  return counts;
}

function shortName(file: string): string {
  return file.replace(/^test\/faults\//, '').replace(/\.test\.ts$/, '');
}
