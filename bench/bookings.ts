/** A long history of bookings for a benchmark, which began an hour ago. */
const HISTORY_START = Date.now() - 3_600_000;

/** The nth of them, as ingest knows it: its id in the stream, its key, when it came, and what Calendly sent. */
export function makeBooking(n: number) {
  const at = new Date(HISTORY_START + n).toISOString();
  const email = `p${n % 1_000}@brightwater.example`;
  const uri = `https://api.calendly.com/scheduled_events/E/invitees/i${n}`;
  const body = { event: 'invitee.created', created_at: at, payload: { uri, email, name: 'Karen Liu' } };
  return { id: `${HISTORY_START + n}-0`, key: `calendly:invitee.created:i${n}`, at, email, body };
}
