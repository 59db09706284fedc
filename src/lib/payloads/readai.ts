/**
 * What Read.ai sends when a report is ready (`trigger: "meeting_end"`), as far as this service reads it: the present
 * shape, and the older one without `platform*`, `request_id` and first and last names.
 * Source: support.read.ai article 16352415827219.
 */
import { z } from 'zod';
import { list } from './list.js';

/** Missing, null, blank and the string "None" (sent in older deliveries) are the same to us. */
const text = z
  .string()
  .nullish()
  .transform((value) => {
    const trimmed = value?.trim();
    return trimmed && !/^(none|null)$/i.test(trimmed) ? trimmed : undefined;
  });

/** `{text}`, or a plain string as some stored deliveries have it. */
const textItem = z
  .union([z.string(), z.object({ text }).transform((item) => item.text)])
  .transform((item) => item?.trim() || undefined);
const textList = list(textItem).transform((items) => items.filter((item) => item !== undefined));

const person = z.object({ name: text, first_name: text, last_name: text, email: text }).partial();

const UNIX_SECONDS_MAX = 1e11;

/** Unix time as seconds or milliseconds, as number or string; milliseconds afterwards. */
const blockTime = z
  .union([z.number(), z.string()])
  .nullish()
  .transform((value) => {
    const time = Number(value);
    if (value === null || value === undefined || !Number.isFinite(time)) return undefined;
    return time < UNIX_SECONDS_MAX ? time * 1000 : time;
  });

const speakerBlock = z.object({
  start_time: blockTime,
  speaker: z
    .union([z.object({ name: text }).partial(), z.string().transform((name) => ({ name: name.trim() || undefined }))])
    .nullish(),
  words: text,
});

export const readaiMeetingWebhook = z
  .object({
    session_id: text,
    meeting_id: text,
    trigger: text,
    request_id: text,
    title: text,
    start_time: text,
    end_time: text,
    participants: list(person),
    owner: person.nullish(),
    summary: text,
    action_items: textList,
    key_questions: textList,
    topics: textList,
    chapter_summaries: list(z.looseObject({ title: text, description: text })),
    transcript: z.object({ speaker_blocks: list(speakerBlock) }).nullish(),
    report_url: text,
    platform: text,
    platform_meeting_id: text,
  })
  .refine((meeting) => (meeting.session_id ?? meeting.meeting_id) !== undefined, {
    path: ['session_id'],
    message: 'should name the meeting',
  });
export type ReadaiMeetingWebhook = z.infer<typeof readaiMeetingWebhook>;
export type ReadaiPerson = z.infer<typeof person>;
