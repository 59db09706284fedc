/** How what a replay would do is told to a person. */
import type { Change, LeadDiff } from '../../../src/consumers/crm-sync/foresee.js';
import { formatDuration } from '../format.js';
import type { ForeseenEntry, ModelCall } from './foresee-entry.js';

const CHANGES: Record<Change, string> = {
  new: 'is written: the lead is not known here',
  fills: 'is written where the field is empty: never written by this service',
  replaces: 'is written where nobody has changed what this service wrote: another value',
  overrules: "is written over what a person put or cleared there: the field is the service's",
  same: 'is what this service last wrote there',
  kept: 'is not written: this service wrote a better or later value there',
  person: "is not written: a person's value stands there",
  cleared: 'is not written: a person has cleared it',
};

/** Sums over all entries that would run. */
export type ForeseenTotals = {
  modelCalls: number;
  /** Of those, with an answer that stands in. */
  storedAnswers: number;
  promptTokens: number;
  requests: number;
  /** Events that would write nothing, that would fail, and of which no more is known before the model is asked. */
  nothingToWrite: number;
  failing: number;
  unknown: number;
};

export function noTotals(): ForeseenTotals {
  const calls = { modelCalls: 0, storedAnswers: 0, promptTokens: 0, requests: 0 };
  return { ...calls, nothingToWrite: 0, failing: 0, unknown: 0 };
}

export function addToTotals(totals: ForeseenTotals, { model, crm, error }: ForeseenEntry): void {
  if (model !== undefined) {
    totals.modelCalls += 1;
    totals.promptTokens += model.tokens;
    if (model.stored === undefined) totals.unknown += 1;
    else totals.storedAnswers += 1;
  }
  if (error !== undefined) totals.failing += 1;
  totals.requests += crm?.data.requests?.length ?? 0;
  if (crm?.data.outcome === 'nothing_to_write') totals.nothingToWrite += 1;
}

export function describeTotals(totals: ForeseenTotals): string {
  const { modelCalls, storedAnswers, promptTokens, requests, nothingToWrite, failing, unknown } = totals;
  const lines = [`Requests to the CRM: ${requests}; events that write nothing: ${nothingToWrite}`];
  if (modelCalls > 0) {
    lines.push(
      `Questions to the model: ${modelCalls}, about ${promptTokens.toLocaleString('en')} tokens; answered before: ${storedAnswers}`,
    );
  }
  if (unknown > 0) lines.push(`Not known before the model is asked: ${unknown}`);
  if (failing > 0) lines.push(`Would fail: ${failing}`);
  return lines.join('\n');
}

/** Indented, one line for each thing. */
export function describeForeseen({ model, crm, error }: ForeseenEntry, now: number): string[] {
  const lines = model === undefined ? [] : [describeModel(model)];
  if (error !== undefined) lines.push(`would fail: ${error.message} (${error.code})`);
  for (const { method, url, body, assumes } of crm?.data.requests ?? []) {
    lines.push(`${method} ${url}`, `  ${JSON.stringify(body)}`);
    if (assumes !== undefined) lines.push(`  ${assumes}`);
  }
  if (crm?.data.outcome === 'nothing_to_write') lines.push(`writes nothing (${crm.data.reason ?? 'no lead'})`);
  for (const lead of crm?.leads ?? []) lines.push(...describeLead(lead, now));
  // A name holds what somebody typed: it must not steer the terminal.
  return lines.map((line) => `    ${line.replace(/\p{C}/gu, '?')}`);
}

function describeModel({ prompt, tokens, stored }: ModelCall): string {
  const asked = `asks the model (${prompt}, about ${tokens} tokens)`;
  return stored === undefined
    ? `${asked}; what comes of it is not known before`
    : `${asked}; below with the answer in ${stored}: same content, same prompt`;
}

function describeLead({ email, lastSeenAt, fields }: LeadDiff, now: number): string[] {
  const seen =
    lastSeenAt === undefined ? '' : `, last seen ${lastSeenAt} (${formatDuration(now - Date.parse(lastSeenAt))} ago)`;
  return [
    `lead ${email}${seen}`,
    ...fields.map(({ field, value, change }) => `  ${field}: ${JSON.stringify(value)} ${CHANGES[change]}`),
  ];
}
