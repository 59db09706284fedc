/**
 * What a model makes of a booking. Its facts are checked against what it was given: a name, a title or a company that
 * stands nowhere is an invention, however likely it sounds.
 */
import { z } from 'zod';
import { clipLine } from '../../lib/clip.js';
import type { Context } from '../../lib/consumer.js';
import { domainOf, isPersonalDomain, isRoleAddress, localPartOf } from '../../lib/email-address.js';
import type { LeadEnriched, LeadFacts } from '../../lib/events.js';
import { answerObject, oneOf, textOrNull } from '../../lib/providers/gemini/answer-schema.js';
import type { Gemini } from '../../lib/providers/gemini/gemini.js';
import { delimit, type Prompt } from '../prompts/prompt.js';
import { boundFacts } from './lead-facts.js';

export type Assessment = NonNullable<LeadEnriched['assessment']>;

const SENTENCE_MAX = 300;
const OUTPUT_TOKENS = 4096;
const FITS = ['strong', 'fair', 'weak', 'unknown'] as const;

const value = z
  .string()
  .nullish()
  .transform((text) => clipLine(text ?? '', SENTENCE_MAX))
  .transform((text) => (text === '' || /^(null|none|n\/a|unknown)$/i.test(text) ? undefined : text));

const answer = z.object({
  wants: value,
  fitReason: value,
  fit: z.enum(FITS),
  firstName: value,
  lastName: value,
  company: value,
  jobTitle: value,
  industry: value,
  website: value,
});

const responseSchema = answerObject({
  wants: textOrNull('What the person wants from us, one sentence'),
  fitReason: textOrNull('What speaks for or against them as a customer, one sentence'),
  fit: oneOf(FITS, 'How well they fit'),
  firstName: textOrNull('Only as it can be seen'),
  lastName: textOrNull('Only as it can be seen'),
  company: textOrNull('As an answer names it, or of the domain'),
  jobTitle: textOrNull('Only as an answer says it'),
  industry: textOrNull('One to three words'),
  website: textOrNull('Of the company'),
});

/** A lead as far as the payload tells, which is all that the model gets to see. */
export type KnownLead = Pick<LeadEnriched, 'kind' | 'facts' | 'booking'> & { email: string };

export async function assess(
  lead: KnownLead,
  {
    gemini,
    prompt,
    signal,
    isProbe,
  }: { gemini: Pick<Gemini, 'ask'>; prompt: Prompt } & Pick<Context, 'signal' | 'isProbe'>,
): Promise<Assessment> {
  const data = describe(lead);
  const result = await gemini.ask({
    system: prompt.text,
    user: delimit('booking', JSON.stringify(data, null, 1)),
    schema: answer,
    responseSchema,
    maxOutputTokens: OUTPUT_TOKENS,
    signal,
    isProbe,
  });
  const { wants, fitReason, fit, ...facts } = result.value;
  return {
    by: { model: result.model, prompt: prompt.version, tokens: result.tokens },
    facts: keepGrounded(facts, lead),
    ...(wants !== undefined && { wants }),
    fit,
    ...(fitReason !== undefined && { fitReason }),
  };
}

/** No phone number: it tells a model nothing. */
function describe({ kind, email, facts: { phone: _, ...known }, booking }: KnownLead): object {
  const domain = domainOf(email);
  return {
    whatHappened: kind,
    email,
    companyDomain: isPersonalDomain(domain) ? null : domain,
    isFunctionAddress: isRoleAddress(email),
    known,
    meeting: booking?.name,
    answers: booking?.answers ?? [],
  };
}

/** What the payload says is left out, what nothing supports is dropped. */
export function keepGrounded(
  facts: { [K in keyof LeadFacts]: LeadFacts[K] | undefined },
  { email, facts: known, booking }: KnownLead,
): LeadFacts {
  const domain = domainOf(email);
  const hasOwnDomain = !isPersonalDomain(domain);
  const answers = (booking?.answers ?? []).map((given) => given.answer).join('\n');
  const person = [known.firstName, known.lastName, isRoleAddress(email) ? '' : localPartOf(email), answers].join('\n');
  const grounded = boundFacts({
    firstName: namedIn(person, facts.firstName),
    lastName: namedIn(person, facts.lastName),
    // An address of a function may be anybody's: it names a company as little as a mail provider's does.
    company: hasOwnDomain && !isRoleAddress(email) ? facts.company : namedIn(answers, facts.company),
    jobTitle: namedIn(answers, facts.jobTitle),
    // Of which company, if there is none to be seen?
    industry: hasOwnDomain || answers !== '' ? facts.industry : undefined,
    website: hasOwnDomain && isWebsiteOf(domain, facts.website) ? facts.website : namedIn(answers, facts.website),
  });
  const isNew = ([name]: [string, unknown]) => !(name in known) && !(isName(name) && hasName(known));
  return Object.fromEntries(Object.entries(grounded).filter(isNew));
}

function isName(fact: string): boolean {
  return fact === 'firstName' || fact === 'lastName';
}

/** A one-word or unsplit name of the payload stands: a model that splits it would write half of it twice. */
function hasName({ firstName, lastName }: LeadFacts): boolean {
  return firstName !== undefined || lastName !== undefined;
}

/** The value, if all its words stand in the text one after the other, whatever their case, accents and punctuation. */
function namedIn(text: string, value: string | undefined): string | undefined {
  if (value === undefined) return undefined;
  const wanted = fold(value);
  return wanted !== ' ' && fold(text).includes(wanted) ? value : undefined;
}

function fold(text: string): string {
  const plain = text.normalize('NFKD').replace(/\p{M}/gu, '').toLowerCase();
  return ` ${plain.replace(/[^\p{L}\p{N}]+/gu, ' ').trim()} `.replace(/^ +$/, ' ');
}

function isWebsiteOf(domain: string, website: string | undefined): boolean {
  const host = website
    ?.replace(/^https?:\/\//i, '')
    .split(/[/?#]/, 1)[0]
    ?.toLowerCase();
  return host === domain || host === `www.${domain}`;
}
