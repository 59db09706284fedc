/** Outside text, made safe to store: bounded, without control characters and without halves of surrogate pairs. */

/** One line: white space and control characters become single spaces; at most `max` code points, an ellipsis included. */
export function clipLine(text: string, max: number): string {
  return clip(text.replace(NOT_IN_A_LINE, ' ').trim(), max);
}

/** Keeps line breaks, at most two in a row. */
export function clipText(text: string, max: number): string {
  const kept = text
    .split(/\r\n?|\n/)
    .map((line) => line.replace(NOT_IN_A_LINE, ' ').trim())
    .join('\n')
    .replace(/\n{3,}/g, '\n\n');
  return clip(kept.trim(), max);
}

const NOT_IN_A_LINE = /[\s\p{Cc}\p{Cs}\u200b\u2028\u2029\ufeff]+/gu;

function clip(text: string, max: number): string {
  // A code point is one or two units, so this text is short enough without a look at each.
  if (text.length <= max) return text;
  const points = Array.from(text);
  return points.length <= max
    ? text
    : `${points
        .slice(0, max - 1)
        .join('')
        .trimEnd()}…`;
}
