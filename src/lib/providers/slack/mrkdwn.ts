/**
 * Text for Slack's own markup. Names, answers and titles come from strangers: in a `mrkdwn` template every plain string
 * is escaped, so `<!channel>` or a false link never goes live. Source: docs.slack.dev "Formatting message text".
 */

/** Markup that is safe to send: our own words, or escaped. */
export type Mrkdwn = { readonly mrkdwn: string };

const ELLIPSIS = '…';
const ENTITIES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;' };
/** Control and bidirectional override characters: they hide or reorder what a person reads. */
const UNSEEN = /[\p{Cc}\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/gu;
const LONE_SURROGATE = /\p{Surrogate}/gu;

/** Template tag: strings and numbers are escaped, `Mrkdwn` is taken as it is. */
export function mrkdwn(strings: TemplateStringsArray, ...values: readonly (string | number | Mrkdwn)[]): Mrkdwn {
  const parts = values.map((value) =>
    typeof value === 'object' ? value.mrkdwn : escapeMrkdwn(oneLine(String(value))),
  );
  return { mrkdwn: String.raw({ raw: strings }, ...parts) };
}

/** Escapes the three characters that Slack gives a meaning, and nothing else. */
export function escapeMrkdwn(text: string): string {
  return text.replace(/[&<>]/g, (character) => ENTITIES[character]!);
}

/** Cuts escaped text to at most `lengthMax` UTF-16 units, never through an entity or a surrogate pair. */
export function cutEscaped(escaped: string, lengthMax: number): string {
  if (escaped.length <= lengthMax) return escaped;
  let end = Math.max(0, lengthMax - ELLIPSIS.length);
  const entity = escaped.slice(0, end).lastIndexOf('&');
  if (entity >= 0 && !escaped.slice(entity, end).includes(';')) end = entity;
  return escaped.slice(0, endOfCharacter(escaped, end)) + ELLIPSIS.slice(0, lengthMax);
}

/** Cuts text that has no entities, never through a surrogate pair. */
export function cutPlain(text: string, lengthMax: number): string {
  if (text.length <= lengthMax) return text;
  return text.slice(0, endOfCharacter(text, Math.max(0, lengthMax - ELLIPSIS.length))) + ELLIPSIS.slice(0, lengthMax);
}

/** A link, or the label alone where the URL is not http(s). */
export function link(url: string, label: string): Mrkdwn {
  const safe = toSafeUrl(url);
  const text = escapeMrkdwn(oneLine(label)).replaceAll('|', '¦');
  return { mrkdwn: safe === undefined ? text : `<${safe}|${text}>` };
}

/** Something to type, in a monospaced box. */
export function command(text: string): Mrkdwn {
  return { mrkdwn: `\`${escapeMrkdwn(oneLine(text)).replaceAll('`', "'")}\`` };
}

/**
 * A stranger's text as one line of ordinary characters. URLs in it lose their power: Slack links whatever looks like one
 * in a message's fallback text.
 */
export function oneLine(text: string): string {
  return text
    .replace(LONE_SURROGATE, '\ufffd')
    .replace(/\s+/g, ' ')
    .replace(UNSEEN, '')
    .replaceAll('://', ':\u200b//')
    .trim();
}

/** Angle brackets without meaning, for `plain_text`: whether Slack decodes entities there is not documented. */
export function disarmBrackets(text: string): string {
  return text.replaceAll('<', '‹').replaceAll('>', '›');
}

function toSafeUrl(url: string): string | undefined {
  if (!URL.canParse(url)) return undefined;
  const { protocol, href } = new URL(url);
  if (protocol !== 'https:' && protocol !== 'http:') return undefined;
  return escapeMrkdwn(href.replaceAll('|', '%7C').replaceAll('<', '%3C').replaceAll('>', '%3E'));
}

function endOfCharacter(text: string, end: number): number {
  const splitsPair = /[\ud800-\udbff]/.test(text.charAt(end - 1)) && /[\udc00-\udfff]/.test(text.charAt(end));
  return splitsPair ? end - 1 : end;
}
