/** Times as an operator says them. */

const TIME = /^(\d{4})-(\d\d)-(\d\d)(?:T\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d))?$/;

/**
 * Milliseconds since 1970 of a time that says by Z or an offset where on earth it is meant, or of the first moment in UTC of a
 * date alone. `undefined` for what is no such time, or stands in no calendar.
 */
export function readTime(text: string): number | undefined {
  const [, year, month, day] = TIME.exec(text) ?? [];
  const date = new Date(`${year}-${month}-${day}`);
  if (Number.isNaN(date.getTime()) || date.getUTCDate() !== Number(day)) return undefined;
  const ms = Date.parse(text);
  return ms >= 0 ? ms : undefined;
}
