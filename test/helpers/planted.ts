/** Settings and a person made of words that stand nowhere else, and what they are found by. */
import { booking, report } from './webhooks.js';

export const READAI_KEY = Buffer.from('planted readai signing key').toString('base64');
export const SECRETS = {
  CALENDLY_SIGNING_KEY: 'planted-calendly-key,planted-calendly-former',
  CALENDLY_API_TOKEN: 'planted-calendly-token',
  READAI_SIGNING_KEY: READAI_KEY,
  READAI_SHARED_SECRET: 'planted-readai-secret',
  ZOHO_CLIENT_ID: 'planted-zoho-id',
  ZOHO_CLIENT_SECRET: 'planted-zoho-secret',
  ZOHO_REFRESH_TOKEN: 'planted-zoho-refresh',
  GEMINI_API_KEY: 'planted-gemini-key',
  SLACK_BOT_TOKEN: 'xoxb-planted-slack',
  DASHBOARD_TOKEN: 'grace:planted-dashboard',
};
export const REDIS_PASSWORD = 'planted-redis';

/**
 * What clients hang on their errors, on one that nothing caught: thrown, or in a promise that nobody waits for. The words
 * come from the environment, as this text is the name of a file in the error's stack.
 */
const CRASH = `
  const { REDIS_URL, CALENDLY_API_TOKEN, ZOHO_REFRESH_TOKEN, GEMINI_API_KEY, TEST_PERSON } = process.env;
  const crash = () => Object.assign(new Error('ERR with args beginning with: ' + CALENDLY_API_TOKEN), {
    command: { name: 'auth', args: ['gvi', REDIS_URL] },
    options: { headers: { authorization: ZOHO_REFRESH_TOKEN } },
    body: TEST_PERSON,
    cause: new Error(GEMINI_API_KEY),
  });
  process.on('SIGUSR2', () => { throw crash(); });
  process.on('SIGPIPE', () => void Promise.reject(crash()));
  if (process.env.TEST_READABLE) Object.defineProperty(process.stdout, 'isTTY', { value: true });
`;
export const PERSON = {
  name: 'Quillon Zarathrax',
  email: 'quillon@zarathrax.example',
  phone: '+49 555 1234 0987',
  company: 'Umbracorp',
  line: 'Our purple otter loses nine ledgers a week.',
  answer: 'Because of the purple otter.',
};
/** For a process that is to end so on SIGUSR2 (thrown) or SIGPIPE (rejected); readable with TEST_READABLE. */
export const CRASHING = {
  NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(CRASH)}`,
  TEST_PERSON: PERSON.name,
};
/** Zoho's access tokens are none of the settings. */
export const SECRET = new RegExp(`planted[- ]|${READAI_KEY}|1000\\.[0-9a-f]{8}`);
export const ANYTHING_OF_PERSON = /quillon|zarathrax|555.?1234.?0987|umbracorp|purple otter/i;
/** Name, email and company are what an alert is for. */
export const TOO_MUCH_FOR_AN_ALERT = /555.?1234.?0987|purple otter/i;

export const bookingOf = (id: string, more: object = {}) =>
  booking({
    ...{ uri: `https://api.calendly.com/scheduled_events/E/invitees/${id}`, email: PERSON.email, name: PERSON.name },
    text_reminder_number: PERSON.phone,
    questions_and_answers: [
      { question: 'Company', answer: PERSON.company },
      { question: 'Why now?', answer: PERSON.answer },
    ],
    ...more,
  });
const person = { name: PERSON.name, first_name: 'Quillon', last_name: 'Zarathrax', email: PERSON.email };
export const reportOf = (id: string) =>
  report({
    ...{ session_id: id, request_id: `R${id}`, title: `${PERSON.company} discovery`, summary: PERSON.line },
    participants: [person, { name: 'Rita Rep', email: 'rita@vendor.example' }],
    transcript: { speaker_blocks: [{ start_time: 1, speaker: { name: PERSON.name }, words: PERSON.line }] },
  });
