/**
 * Blocks that stay within Slack's limits, whatever is put into them. Source: docs.slack.dev Block Kit reference; the
 * limit on a whole message is not documented, `msg_blocks_too_long` comes at about 13 200 characters.
 */
import { cutEscaped, cutPlain, disarmBrackets, type Mrkdwn, oneLine } from './mrkdwn.js';

type PlainText = { type: 'plain_text'; text: string; emoji: false };
/** `verbatim`: Slack links nothing by itself. */
type MrkdwnText = { type: 'mrkdwn'; text: string; verbatim: true };

export type Block =
  | { type: 'header'; text: PlainText }
  | { type: 'section'; text: PlainText | MrkdwnText }
  | { type: 'context'; elements: (PlainText | MrkdwnText)[] };

const HEADER_LENGTH_MAX = 150;
const SECTION_LENGTH_MAX = 3_000;
const BLOCKS_MAX = 50;
const MESSAGE_BYTES_MAX = 12_000;
/** What Slack recommends for a message's fallback text. */
const FALLBACK_LENGTH_MAX = 3_000;

const SHORTENED: Block = { type: 'context', elements: [plainText('… shortened', SECTION_LENGTH_MAX)] };

export function header(text: string): Block {
  return { type: 'header', text: plainText(text, HEADER_LENGTH_MAX) };
}

/** Text that Slack shows as it is: the place for what strangers wrote. */
export function plainSection(lines: readonly string[]): Block {
  return { type: 'section', text: plainText(lines, SECTION_LENGTH_MAX) };
}

/** Lines with markup. Those that do not fit are left out whole, as a cut may fall into a link. */
export function section(lines: readonly Mrkdwn[]): Block {
  return { type: 'section', text: markup(lines) };
}

/** Small print. */
export function context(lines: readonly Mrkdwn[]): Block {
  return { type: 'context', elements: [markup(lines)] };
}

/** A message's fallback text, which notifications and screen readers use. */
export function fallbackText({ mrkdwn }: Mrkdwn): string {
  return cutEscaped(mrkdwn, FALLBACK_LENGTH_MAX);
}

/** The blocks from the first on that a message can hold; a note at the end tells when some were left out. */
export function fitBlocks(blocks: readonly Block[]): Block[] {
  if (fits(blocks)) return [...blocks];
  const kept = [...blocks];
  while (kept.length > 0 && !fits([...kept, SHORTENED])) kept.pop();
  return [...kept, SHORTENED];
}

function fits(blocks: readonly Block[]): boolean {
  return blocks.length <= BLOCKS_MAX && Buffer.byteLength(JSON.stringify(blocks)) <= MESSAGE_BYTES_MAX;
}

function plainText(text: string | readonly string[], lengthMax: number): PlainText {
  const lines = typeof text === 'string' ? [text] : text;
  const cleaned = lines.map((line) => disarmBrackets(oneLine(line))).join('\n');
  return { type: 'plain_text', text: cutPlain(cleaned, lengthMax) || '–', emoji: false };
}

function markup(lines: readonly Mrkdwn[]): MrkdwnText {
  let text = '';
  for (const { mrkdwn } of lines) {
    const longer = text === '' ? mrkdwn : `${text}\n${mrkdwn}`;
    if (longer.length > SECTION_LENGTH_MAX) break;
    text = longer;
  }
  return { type: 'mrkdwn', text: text || '–', verbatim: true };
}
