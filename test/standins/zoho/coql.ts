/**
 * As much of COQL as a look-up of leads needs: `select a, b from Leads where … [limit n]`, with `=`, `!=`, `in`,
 * `is null`, `is not null`, `and`, `or` and brackets. It keeps Zoho's rules that bite: criteria in pairs, at most 50
 * values in a list, unknown columns refused, converted leads hidden unless the query asks for `Converted__s = true`.
 */

export type CoqlQuery = {
  columns: string[];
  module: string;
  matches: (read: (column: string) => unknown) => boolean;
  /** Every column that the query names. */
  mentioned: string[];
  asksForConverted: boolean;
  limit: number;
};

export class CoqlError extends Error {
  readonly code: 'SYNTAX_ERROR' | 'LIMIT_EXCEEDED';

  constructor(message: string, code: 'SYNTAX_ERROR' | 'LIMIT_EXCEEDED' = 'SYNTAX_ERROR') {
    super(message);
    this.code = code;
  }
}

type Test = (read: (column: string) => unknown) => boolean;

const TOKEN = /\s*(?:'((?:[^']|'')*)'|(!=|=|[(),])|([^\s'=!(),]+))/y;
const IN_VALUES_MAX = 50;
const LIMIT_MAX = 2_000;

type Token = { kind: 'text' | 'sign' | 'word'; value: string };

export function parseCoql(query: string): CoqlQuery {
  const tokens = tokenize(query);
  const mentioned = new Set<string>();
  let position = 0;
  let asksForConverted = false;

  const peek = (word: string) => tokens[position]?.kind !== 'text' && tokens[position]?.value.toLowerCase() === word;
  function accept(word: string): boolean {
    if (!peek(word)) return false;
    position += 1;
    return true;
  }
  function expect(word: string): void {
    if (!accept(word)) throw new CoqlError(`${word} expected`);
  }
  function take(kind: Token['kind'] | 'value'): string {
    const token = tokens[position];
    const fits = token && (kind === 'value' ? token.kind !== 'sign' : token.kind === kind);
    if (!fits) throw new CoqlError(`${kind} expected`);
    position += 1;
    return token.value;
  }
  function column(): string {
    const name = take('word');
    mentioned.add(name);
    return name;
  }

  function criteria(): Test {
    const first = criterion();
    const join = accept('and') ? 'and' : accept('or') ? 'or' : undefined;
    if (!join) return first;
    const second = criterion();
    if (peek('and') || peek('or')) throw new CoqlError('more than two criteria need brackets around pairs');
    return join === 'and' ? (read) => first(read) && second(read) : (read) => first(read) || second(read);
  }

  function criterion(): Test {
    if (accept('(')) {
      const inner = criteria();
      expect(')');
      return inner;
    }
    const name = column();
    if (accept('is')) {
      const wantsNull = !accept('not');
      expect('null');
      return (read) => (read(name) === null) === wantsNull;
    }
    if (accept('in')) {
      const wanted = new Set(list().map((value) => value.toLowerCase()));
      return (read) => {
        const actual = read(name);
        return actual !== null && wanted.has(String(actual).toLowerCase());
      };
    }
    const negated = !accept('=');
    if (negated) expect('!=');
    const wanted = take('value');
    if (name === 'Converted__s' && wanted.toLowerCase() === 'true') asksForConverted = true;
    return (read) => isSame(read(name), wanted) !== negated;
  }

  function list(): string[] {
    const values: string[] = [];
    expect('(');
    do values.push(take('value'));
    while (accept(','));
    expect(')');
    if (values.length > IN_VALUES_MAX) throw new CoqlError(`more than ${IN_VALUES_MAX} values`, 'LIMIT_EXCEEDED');
    return values;
  }

  expect('select');
  const columns: string[] = [];
  do columns.push(column());
  while (accept(','));
  expect('from');
  const module = take('word');
  expect('where');
  const matches = criteria();
  const limit = accept('limit') ? Number(take('word')) : 200;
  if (position < tokens.length) throw new CoqlError('nothing more expected');
  if (!(limit >= 1 && limit <= LIMIT_MAX)) throw new CoqlError('limit out of range', 'LIMIT_EXCEEDED');
  return { columns, module, matches, mentioned: [...mentioned], asksForConverted, limit };
}

function tokenize(query: string): Token[] {
  const tokens: Token[] = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < query.trimEnd().length) {
    const match = TOKEN.exec(query);
    if (!match) throw new CoqlError('unexpected character');
    const [, text, sign, word] = match;
    if (text !== undefined) tokens.push({ kind: 'text', value: text.replaceAll("''", "'") });
    else if (sign !== undefined) tokens.push({ kind: 'sign', value: sign });
    else tokens.push({ kind: 'word', value: word! });
  }
  return tokens;
}

function isSame(actual: unknown, wanted: string): boolean {
  return actual !== null && String(actual).toLowerCase() === wanted.toLowerCase();
}
