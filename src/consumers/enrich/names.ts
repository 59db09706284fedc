/**
 * First and last name from what a form gives. Calendly's default is one field, so most bookings bring `name` alone, and
 * people type what they like: an address, one word, "Doe, Jane", a title, a company in brackets.
 */
import { clipLine } from '../../lib/clip.js';

export type PersonName = { firstName?: string; lastName?: string };

const NAME_MAX = 80;
/** What is looked at of what was typed. */
const TYPED_MAX = 10 * NAME_MAX;

/** Empty where nothing given is a name; never an email address. */
export function nameOf(given: {
  first: string | undefined;
  last: string | undefined;
  full: string | undefined;
}): PersonName {
  const first = cleanName(given.first);
  const last = cleanName(given.last);
  const full = cleanName(given.full);
  if (first !== undefined && last !== undefined) return { firstName: first, lastName: last };
  if (first === undefined && last === undefined) return full === undefined ? {} : splitName(full);
  const rest = restOf(full, first ?? last);
  const firstName = first ?? rest;
  const lastName = last ?? rest;
  return { ...(firstName !== undefined && { firstName }), ...(lastName !== undefined && { lastName }) };
}

/**
 * "Jane van Doe" is Jane and van Doe; "Doe, Jane" is turned round. One word is a last name: the CRM demands one, and
 * lists the lead by it. A name in another script than Latin stays whole: where its parts end, and which comes first, is
 * not for us to say.
 */
export function splitName(name: string): PersonName {
  const plain = stripTitles(name);
  if (OTHER_SCRIPTS.test(plain)) return { lastName: plain };
  const [before = '', after, ...more] = plain.split(',').map((part) => part.trim());
  if (after !== undefined && more.length === 0 && before !== '' && after !== '') {
    if (COMPANY_ENDING.test(after)) return { lastName: plain };
    if (!isCredentials(after)) return { firstName: after, lastName: before };
  }
  return splitWords(before === '' ? plain : isCredentials(after ?? '') || more.length > 0 ? before : plain);
}

function splitWords(name: string): PersonName {
  const words = name.split(' ');
  if (words.length < 2) return { lastName: name };
  const particle = words.findIndex((word, index) => index > 0 && index < words.length - 1 && PARTICLE.test(word));
  const ending = GENERATION.test(words.at(-1)!) && words.length > 2 ? 2 : 1;
  const cut = particle > 0 ? particle : words.length - ending;
  return { firstName: words.slice(0, cut).join(' '), lastName: words.slice(cut).join(' ') };
}

const OTHER_SCRIPTS = /(?!\p{Script=Latin})\p{L}/u;
const PARTICLE = /^(van|von|vom|zu|zum|zur|de|del|della|der|den|di|da|do|dos|das|du|la|le|al|el|bin|ibn|ter|ten|y)$/i;
const TITLE = /^((mr|mrs|ms|miss|mx|dr|prof|professor|sir|herr|frau|señora?|sra?|mme|mlle)\.?|(ing|dipl|mag)\.)\s+/i;
const CREDENTIAL = /^(phd|mba|md|msc|bsc|llm|cpa|cfa|pmp|esq|rn|jr|sr|[iv]{2,3})$/i;
const GENERATION = /^(jr|sr|[iv]{2,3})\.?$/i;
const COMPANY_ENDING = /^(inc|llc|ltd|llp|corp|co|gmbh|ag|s\.?a|s\.?r\.?l|b\.?v|pty|plc)\.?$/i;

/** One or several, as in "Ph.D. MBA". Word by word: a pattern for a row of them can be made to try for minutes. */
function isCredentials(text: string): boolean {
  const words = text.trim().split(/\s+/);
  return words.every((word) => CREDENTIAL.test(word.replaceAll('.', '')));
}

/** Several titles may stand together, as in "Prof. Dr. Jane Doe". */
function stripTitles(name: string): string {
  let plain = name;
  while (TITLE.test(plain)) plain = plain.replace(TITLE, '');
  return plain;
}

/** Without what people add after a name: "(Acme)", "| Acme", " - Acme". Nothing where no letter is left, or where it is an address. */
function cleanName(text: string | undefined): string | undefined {
  if (text === undefined || /@|:\/\//.test(text)) return undefined;
  // Cut first: what looks for the end of a bracket takes the square of the brackets that have none.
  const name = clipLine(
    text
      .slice(0, TYPED_MAX)
      .replace(/\([^)]*\)/g, ' ')
      .replace(/(\||\s[-–—]\s).*$/s, ' '),
    NAME_MAX,
  );
  return /\p{L}/u.test(name) && !NO_NAME.test(name) ? name : undefined;
}

const NO_NAME = /^(n\/?a|none|null|unknown|anonymous|test|no name)$/i;

/** "Jane Doe" without its "Jane", or without its "Doe". */
function restOf(full: string | undefined, part: string | undefined): string | undefined {
  if (full === undefined || part === undefined || full === part) return undefined;
  if (full.startsWith(`${part} `)) return full.slice(part.length + 1);
  return full.endsWith(` ${part}`) ? full.slice(0, -part.length - 1) : undefined;
}
