/**
 * A transcript as turns, and as the text that a model reads.
 *
 * What is cut when it is too long: the first and the last fifth of the budget go to the beginning (who is who, why they
 * came) and the end (what was agreed). The rest goes to what the customer said, longest turn first, each with the turn
 * before and after it. Quotes are looked up in the whole transcript, whatever was cut.
 */
import { clipLine } from '../../lib/clip.js';
import type { Side } from '../../lib/colleagues.js';
import type { ReadaiMeetingWebhook } from '../../lib/payloads/readai.js';

/** All that one speaker said until another did. */
export type Turn = { speaker: string; side: Side; text: string };

const NAME_MAX = 100;
const NOBODY = 'Unknown speaker';

export function turnsOf(
  { transcript }: Pick<ReadaiMeetingWebhook, 'transcript'>,
  sideOfSpeaker: (speaker: string | undefined) => Side,
): Turn[] {
  const turns: Turn[] = [];
  for (const { speaker, words } of transcript?.speaker_blocks ?? []) {
    const text = (words ?? '').replace(/\s+/g, ' ').trim();
    if (text === '') continue;
    const name = clipLine(speaker?.name ?? '', NAME_MAX) || NOBODY;
    const last = turns.at(-1);
    // Two blocks of nobody may be two people.
    if (last?.speaker === name && name !== NOBODY) last.text += ` ${text}`;
    else turns.push({ speaker: name, side: sideOfSpeaker(speaker?.name), text });
  }
  return turns;
}

const SIDES: Record<Side, string> = { external: 'customer', internal: 'us', unknown: 'side unknown' };

/** At most about `tokensMax` tokens, by the rule above. */
export function renderTranscript(turns: readonly Turn[], tokensMax: number): string {
  const whole = turns.map(renderTurn);
  if (sum(whole.map(estimateTokens)) <= tokensMax) return whole.join('\n');
  const lines = whole.map((line) => clipLine(line, charsFor(line, tokensMax / 10)));
  const kept = chooseTurns(turns, lines.map(estimateTokens), tokensMax);
  return joinWithGaps(lines, kept);
}

/** Four bytes a token: near enough for Latin scripts, too high for others. */
export function estimateTokens(text: string): number {
  return Math.ceil(Buffer.byteLength(text) / 4) + 1;
}

function renderTurn({ speaker, side, text }: Turn): string {
  return `${speaker} (${SIDES[side]}): ${text}`;
}

function charsFor(line: string, tokens: number): number {
  return Math.max(20, Math.floor((tokens * line.length) / estimateTokens(line)));
}

function chooseTurns(turns: readonly Turn[], costs: readonly number[], tokensMax: number): ReadonlySet<number> {
  const kept = new Set<number>();
  let left = tokensMax * 0.95; // The rest is for the lines that mark gaps.
  const keep = (index: number, floor: number): boolean => {
    const cost = costs[index];
    if (cost === undefined || kept.has(index)) return true;
    if (left - cost < floor) return false;
    kept.add(index);
    left -= cost;
    return true;
  };
  for (let i = 0; i < turns.length && keep(i, tokensMax * 0.75); i += 1);
  for (let i = turns.length - 1; i >= 0 && keep(i, tokensMax * 0.55); i -= 1);
  const theirs = turns.flatMap(({ side }, index) => (side === 'internal' ? [] : [index]));
  for (const index of theirs.sort((a, b) => costs[b]! - costs[a]!)) {
    if (keep(index, 0)) [index - 1, index + 1].map((neighbour) => keep(neighbour, 0));
  }
  return kept;
}

function joinWithGaps(lines: readonly string[], kept: ReadonlySet<number>): string {
  const joined: string[] = [];
  let gap = 0;
  const closeGap = () => {
    if (gap > 0) joined.push(`[${gap} turns left out]`);
    gap = 0;
  };
  for (const [index, line] of lines.entries()) {
    if (!kept.has(index)) {
      gap += 1;
      continue;
    }
    closeGap();
    joined.push(line);
  }
  closeGap();
  return joined.join('\n');
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
