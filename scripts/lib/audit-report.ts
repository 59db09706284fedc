/** Reads what `npm audit --json` prints. Source: docs.npmjs.com "npm audit", report version 2. */

export type AuditVerdict =
  | { kind: 'clean' }
  | { kind: 'advisories'; lines: string[] }
  /** The registry gave no report: it is away, or has no such endpoint. */
  | { kind: 'unknown'; why: string };

type Advisory = { title?: string; url?: string };
type Vulnerability = { name: string; severity: string; range: string; via: (string | Advisory)[] };
type Report = {
  vulnerabilities?: Record<string, Vulnerability>;
  statusCode?: number;
  message?: string;
};

/** `text` is empty where npm was ended before it had an answer. */
export function readAuditReport(text: string): AuditVerdict {
  const report = parse(text);
  if (report === undefined) return { kind: 'unknown', why: 'no answer in time' };
  const { vulnerabilities, statusCode, message = '' } = report;
  if (vulnerabilities === undefined) {
    const reason = /\bE[A-Z]{4,}\b/.exec(message)?.[0] ?? 'no report';
    return { kind: 'unknown', why: statusCode === undefined ? reason : `it answered ${statusCode}` };
  }
  const lines = Object.values(vulnerabilities).flatMap(describe);
  return lines.length === 0 ? { kind: 'clean' } : { kind: 'advisories', lines };
}

/** A package that only depends on a vulnerable one is told by that one. */
function describe({ name, severity, range, via }: Vulnerability): string[] {
  const advisories = via.filter((cause): cause is Advisory => typeof cause === 'object');
  return advisories.map(({ title = '', url = '' }) => `${severity}: ${name} ${range}: ${title} ${url}`.trim());
}

function parse(text: string): Report | undefined {
  try {
    return Object(JSON.parse(text)) as Report;
  } catch {
    return undefined;
  }
}
