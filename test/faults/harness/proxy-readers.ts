/** Cuts what goes through a proxy into commands and replies, and tells which reply belongs to which command. */
import { makeCommandReader, makeReplyReader } from './resp.js';
import { describeCommand, type Passage } from './wire.js';

type Described = Pick<Passage, 'name' | 'keys' | 'argv' | 'group' | 'body' | 'reply'>;

export type Unit = {
  bytes: Buffer;
  arrivedAt: number;
  /** What begins with these bytes, or is answered by them; absent in the midst of something. */
  passage?: Described;
  /** The beginning of an answer. */
  isReply?: boolean;
};

export type Reader = {
  fromClient: (chunk: Buffer) => Unit[];
  fromServer: (chunk: Buffer) => Unit[];
  /** The command went on its way: the next reply that nobody else waits for is its. */
  sent: (passage: Described) => void;
};

export function makeRedisReader(): Reader {
  const readCommands = makeCommandReader();
  const readReplies = makeReplyReader();
  const underWay: Described[] = [];
  return {
    fromClient: (chunk) =>
      readCommands(chunk).map(({ bytes, args }) => ({ bytes, arrivedAt: Date.now(), passage: describeCommand(args) })),
    fromServer: (chunk) =>
      readReplies(chunk).map((bytes) => {
        const passage = underWay.shift();
        // A script that Redis does not know has not been executed; it comes again as EVAL.
        const wasDone = passage !== undefined && !bytes.subarray(0, 9).equals(NOSCRIPT);
        return {
          bytes,
          arrivedAt: Date.now(),
          isReply: true,
          ...(wasDone ? { passage: { ...passage, reply: bytes } } : {}),
        };
      }),
    sent: (passage) => void underWay.push(passage),
  };
}

const NOSCRIPT = Buffer.from('-NOSCRIPT');
const REQUEST_LINE = /^([A-Z]+) (\S+) HTTP\/1\.1\r\n/;
const LENGTH_LINE = /\r\ncontent-length: (\d+)\r\n/i;
const UNBOUNDED_LINE = /\r\ntransfer-encoding:/i;
const END_OF_HEAD = '\r\n\r\n';

/** One request at a time on a connection, as HTTP/1.1 clients without pipelining do it; each goes on once it is whole. */
export function makeHttpReader(): Reader {
  let current: Described | undefined;
  let begun: Buffer[] = [];
  let size = 0;
  /** Of the request, once that is known. */
  let wanted = 0;
  let isUnbounded = false;

  function takeWhole(): Buffer {
    const bytes = Buffer.concat(begun);
    [begun, size, wanted] = [[], 0, 0];
    return bytes;
  }

  return {
    fromClient(chunk) {
      if (isUnbounded) return [{ bytes: chunk, arrivedAt: Date.now() }];
      begun.push(chunk);
      size += chunk.length;
      if (size < wanted) return [];
      const bytes = takeWhole();
      const headEnd = bytes.indexOf(END_OF_HEAD);
      const bodyAt = headEnd + END_OF_HEAD.length;
      const head = bytes.toString('latin1', 0, bodyAt);
      isUnbounded = UNBOUNDED_LINE.test(head);
      const whole = headEnd < 0 ? bytes.length + 1 : bodyAt + Number(LENGTH_LINE.exec(head)?.[1] ?? 0);
      if (bytes.length < whole) {
        [begun, size, wanted] = [[bytes], bytes.length, whole];
        return [];
      }
      const [, method, path = ''] = REQUEST_LINE.exec(head) ?? [];
      const name = `${method} ${path.split('?', 1)[0]}`;
      const passage = { name, keys: [], argv: [], group: undefined, body: bytes.toString('utf8', bodyAt) };
      return [{ bytes, arrivedAt: Date.now(), passage }];
    },
    fromServer(chunk) {
      const passage = current;
      current = undefined;
      isUnbounded = false;
      const isReply = passage !== undefined;
      return [{ bytes: chunk, arrivedAt: Date.now(), isReply, ...(isReply ? { passage } : {}) }];
    },
    sent(passage) {
      current = passage;
    },
  };
}
