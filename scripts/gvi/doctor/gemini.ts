import { makeGemini } from '../../../src/lib/providers/gemini/gemini.js';
import { DEFAULT_MODEL, rulesFor } from '../../../src/lib/providers/gemini/models.js';
import { CALL_TIMEOUT_MS, type Check, describeFailure, type Found, ok, warning } from './check.js';

/** Key and model, live, and how long the model is served. */
export const gemini: Check = {
  name: 'gemini',
  needsRedis: false,
  async run({ config }, signal) {
    if (config.gemini === undefined) {
      return [
        warning(
          'No GEMINI_API_KEY: leads and meetings are not assessed by a model',
          'make a key in Google AI Studio and set it',
        ),
      ];
    }
    const { model } = config.gemini;
    const served = await makeGemini({ ...config.gemini, timeoutMs: CALL_TIMEOUT_MS })
      .check(signal)
      .then(() => ok(`The key is good and ${model} is served`), describeFailure);
    return [served, ...inspectModel(model, new Date())];
  },
};

/** Announced ends. Source: ai.google.dev/gemini-api/docs/deprecations, read in November 2026. */
const ENDS: readonly { names: RegExp; on: string }[] = [
  { names: /^gemini-(1|2\.0)/, on: '2026-06-01' },
  { names: /^gemini-2\.5-(pro|flash)(?!-lite)/, on: '2026-12-01' },
  { names: /^gemini-3\.1-flash-lite/, on: '2027-05-01' },
];
const SOON_MS = 90 * 86_400_000;

/** Pure. A warning from three months before a model's end on, as it takes a person to choose another. */
export function inspectModel(model: string, now: Date): Found[] {
  const name = model.slice(model.lastIndexOf('/') + 1).toLowerCase();
  const fix = `set GEMINI_MODEL, for instance to ${DEFAULT_MODEL}`;
  const end = ENDS.find(({ names }) => names.test(name));
  if (end !== undefined && Date.parse(end.on) - now.getTime() < SOON_MS) {
    const verb = Date.parse(end.on) > now.getTime() ? 'ends' : 'ended';
    return [warning(`Google's service of ${name} ${verb} on ${end.on}; another model may answer in its place`, fix)];
  }
  if (rulesFor(name).family === 'unknown') {
    return [warning(`${name} is of no family that this version knows: it is asked without thinking parameters`, fix)];
  }
  return [];
}
