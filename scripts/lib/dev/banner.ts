/** What `./scripts/dev` prints once everything answers. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';

export type BannerOptions = {
  port: number;
  workerPort: number;
  /** One line: dry run, live or sandbox. */
  mode: string;
  redis: string;
  /** Of the sandbox. */
  places: readonly [label: string, url: string][];
  /** A signature is asked for: then a plain curl would be refused. */
  isSigned: boolean;
};

const FIXTURE = 'test/fixtures/calendly_invitee_created.json';

export function makeBanner(options: BannerOptions): string {
  const base = `http://localhost:${options.port}`;
  const lines: [string, string][] = [
    ['webhooks', `${base}/webhooks/calendly`],
    ['', `${base}/webhooks/readai`],
    ['health', `${base}/healthz`],
    ['', `${base}/readyz`],
    ['metrics', `${base}/metrics`],
    ['', `http://localhost:${options.workerPort}/metrics (the worker's own)`],
    ['debug', `${base}/debug/info`],
    ['Redis', options.redis],
    ...options.places,
  ];
  const box = drawBox([options.mode, '', ...lines.map(([label, text]) => `${label.padEnd(11)}${text}`)]);
  return ['', box, '', ...tryIt(base, options), '', 'Ctrl-C stops all of it.', ''].join('\n');
}

function tryIt(base: string, { isSigned, places }: BannerOptions): string[] {
  const fixture = resolve(FIXTURE);
  const send = isSigned
    ? `  npm run -s gvi -- send calendly --url ${base}`
    : `  curl -sS -H 'content-type: application/json' --data-binary '@${fixture}' ${base}/webhooks/calendly`;
  const state = places.find(([label]) => label === 'Zoho')?.[1];
  return [
    'Try it, in another terminal:',
    send,
    `  curl -sS ${base}/debug/idem/${keyOf(fixture)}`,
    ...(state === undefined ? [] : [`  curl -sS ${state}`]),
  ];
}

/** `calendly:{event}:{last path segment of payload.uri}`. */
function keyOf(fixture: string): string {
  const { event, payload } = JSON.parse(readFileSync(fixture, 'utf8')) as { event: string; payload: { uri: string } };
  return `calendly:${event}:${payload.uri.split('/').at(-1)}`;
}

function drawBox(lines: readonly string[]): string {
  const width = Math.max(...lines.map((line) => line.length));
  const edge = '─'.repeat(width + 2);
  return [`┌${edge}┐`, ...lines.map((line) => `│ ${line.padEnd(width)} │`), `└${edge}┘`].join('\n');
}
