/** Redis' protocol (RESP2) as far as a proxy must read it: where a command and where a reply ends. */

export type WireCommand = { bytes: Buffer; args: Buffer[] };

const CR = 13;

/** Cuts a client's bytes into commands; what is incomplete waits for the next chunk. */
export function makeCommandReader(): (chunk: Buffer) => WireCommand[] {
  let rest: Buffer = Buffer.alloc(0);
  return (chunk) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    const commands: WireCommand[] = [];
    for (let found = readCommand(rest); found !== undefined; found = readCommand(rest)) {
      commands.push(found);
      rest = rest.subarray(found.bytes.length);
    }
    return commands;
  };
}

/** Cuts a server's bytes into whole replies. */
export function makeReplyReader(): (chunk: Buffer) => Buffer[] {
  let rest: Buffer = Buffer.alloc(0);
  return (chunk) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    const replies: Buffer[] = [];
    for (let end = endOfReply(rest, 0); end !== undefined; end = endOfReply(rest, 0)) {
      replies.push(rest.subarray(0, end));
      rest = rest.subarray(end);
    }
    return replies;
  };
}

/** An array of bulk strings, as clients send it; an inline command is taken as one argument. */
function readCommand(bytes: Buffer): WireCommand | undefined {
  const head = readLine(bytes, 0);
  if (head === undefined) return undefined;
  if (bytes[0] !== 0x2a) return { bytes: bytes.subarray(0, head.end), args: [Buffer.from(head.text)] };
  const args: Buffer[] = [];
  let at = head.end;
  for (let left = Number(head.text.slice(1)); left > 0; left -= 1) {
    const size = readLine(bytes, at);
    if (size === undefined) return undefined;
    const end = size.end + Number(size.text.slice(1));
    if (bytes.length < end + 2) return undefined;
    args.push(bytes.subarray(size.end, end));
    at = end + 2;
  }
  return { bytes: bytes.subarray(0, at), args };
}

function endOfReply(bytes: Buffer, from: number): number | undefined {
  let at = from;
  for (let left = 1; left > 0; left -= 1) {
    const line = readLine(bytes, at);
    if (line === undefined) return undefined;
    at = line.end;
    const size = Number(line.text.slice(1));
    if (line.text[0] === '$' && size >= 0) at += size + 2;
    if (line.text[0] === '*' && size > 0) left += size;
    if (at > bytes.length) return undefined;
  }
  return at;
}

export type RespValue = string | number | null | RespValue[];

/** A whole reply as a value; an error as its text. */
export function parseReply(bytes: Buffer): RespValue {
  let at = 0;
  return next();

  function next(): RespValue {
    const { text, end } = readLine(bytes, at)!;
    const [type, rest] = [text[0], text.slice(1)];
    at = end;
    if (type === ':') return Number(rest);
    if (type !== '$' && type !== '*') return rest;
    const size = Number(rest);
    if (size < 0) return null;
    if (type === '*') return Array.from({ length: size }, next);
    at += size + 2;
    return bytes.toString('utf8', at - size - 2, at - 2);
  }
}

function readLine(bytes: Buffer, at: number): { text: string; end: number } | undefined {
  const end = bytes.indexOf(CR, at);
  if (end < 0 || end + 1 >= bytes.length) return undefined;
  return { text: bytes.toString('latin1', at, end), end: end + 2 };
}
