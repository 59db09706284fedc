/** Where a lead comes from, readable in a report: "Google / cpc", or "Calendly" where no campaign brought them. */
import { clipLine } from '../../lib/clip.js';
import type { CalendlyInviteeWebhook } from '../../lib/payloads/calendly.js';

const SOURCE_MAX = 100;

/** A map, as the name looked for is anybody's text: `__proto__` is no source. */
const WRITTEN = new Map([
  ['google', 'Google'],
  ['adwords', 'Google'],
  ['bing', 'Bing'],
  ['linkedin', 'LinkedIn'],
  ['facebook', 'Facebook'],
  ['fb', 'Facebook'],
  ['instagram', 'Instagram'],
  ['ig', 'Instagram'],
  ['youtube', 'YouTube'],
  ['tiktok', 'TikTok'],
  ['twitter', 'X'],
  ['x', 'X'],
  ['chatgpt', 'ChatGPT'],
  ['hubspot', 'HubSpot'],
  ['g2', 'G2'],
]);

/** What a broken campaign link leaves: `{{campaign}}`, `(not set)`. */
const EMPTY = /^(\(.*\)|\{.*\}|undefined|null|none|n\/a)$/i;

/** Where no campaign is told, or Calendly names itself: a stand-in, which never takes the place of a campaign. */
export const NO_CAMPAIGN = 'Calendly';

export function leadSourceOf(tracking: CalendlyInviteeWebhook['payload']['tracking']): string {
  const source = campaignText(tracking?.utm_source);
  if (source === undefined) return NO_CAMPAIGN;
  const known = WRITTEN.get(source.toLowerCase().replace(/\.com$/, ''));
  const name = known ?? source[0]!.toUpperCase() + source.slice(1);
  const medium = campaignText(tracking?.utm_medium);
  return clipLine(medium === undefined ? name : `${name} / ${medium.toLowerCase()}`, SOURCE_MAX);
}

function campaignText(text: string | undefined): string | undefined {
  const plain = clipLine(text ?? '', SOURCE_MAX);
  return plain === '' || EMPTY.test(plain) ? undefined : plain;
}
