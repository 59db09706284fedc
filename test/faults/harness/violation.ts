/** What the checker found wrong. */

export const RULES = [
  'taken-in',
  'ended',
  'failed',
  'follow-ons',
  'marks',
  'at-rest',
  'reading',
  'consumers',
  'ledger',
  'numbers',
  'crm',
  'effects',
  'alerts',
  'processes',
] as const;
export type Rule = (typeof RULES)[number];

export type Violation = {
  rule: Rule;
  text: string;
  key?: string;
  /** Of which the timeline is shown. */
  eventId?: string;
  /** Of whom is shown what was written. */
  email?: string;
  /** Events that are gone, effects that came twice. */
  lost?: number;
  doubled?: number;
};
