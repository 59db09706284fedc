/**
 * What Calendly sends, as far as this service reads it. Only `uri` and `email` are required: the vendor's own minimal
 * examples leave out fields that its schema marks as required, and real deliveries hold null where it promises objects.
 * Source: developer.calendly.com "Webhook Payload".
 */
import { z } from 'zod';
import { list } from './list.js';

/** Missing, null and blank are the same to us. */
const text = z
  .string()
  .nullish()
  .transform((value) => value?.trim() || undefined);

const answer = z.object({ question: text, answer: text });

const tracking = z
  .object({ utm_campaign: text, utm_source: text, utm_medium: text, utm_content: text, utm_term: text })
  .partial()
  .nullish();

const cancellation = z
  .object({ canceled_by: text, reason: text, canceler_type: text, created_at: text })
  .partial()
  .nullish();

const invitee = z.object({
  uri: z.string().min(1),
  email: z.string().trim().min(3).regex(/@/, 'should be an email address'),
  name: text,
  first_name: text,
  last_name: text,
  timezone: text,
  status: text,
  created_at: text,
  updated_at: text,
  questions_and_answers: list(answer),
  tracking,
  text_reminder_number: text,
  rescheduled: z.boolean().nullish(),
  old_invitee: text,
  new_invitee: text,
  cancellation,
  no_show: z.object({ uri: text, created_at: text }).partial().nullish(),
  scheduled_event: z
    .object({
      uri: text,
      name: text,
      start_time: text,
      end_time: text,
      location: z.looseObject({ type: text, location: text }).nullish(),
      event_memberships: list(z.object({ user: text, user_email: text, user_name: text })),
      cancellation,
    })
    .partial()
    .nullish(),
});

const routingForm = z.object({
  uri: z.string().min(1),
  questions_and_answers: list(answer),
  tracking,
  result: z.looseObject({ type: text }).nullish(),
  submitter: text,
  submitter_type: text,
  created_at: text,
  updated_at: text,
});

const envelope = { created_at: z.string().min(1), created_by: text };

export const calendlyInviteeWebhook = z.object({
  ...envelope,
  event: z.enum(['invitee.created', 'invitee.canceled', 'invitee_no_show.created', 'invitee_no_show.deleted']),
  payload: invitee,
});
export type CalendlyInviteeWebhook = z.infer<typeof calendlyInviteeWebhook>;

export const calendlyRoutingFormWebhook = z.object({
  ...envelope,
  event: z.literal('routing_form_submission.created'),
  payload: routingForm,
});
export type CalendlyRoutingFormWebhook = z.infer<typeof calendlyRoutingFormWebhook>;
