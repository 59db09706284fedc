/** Cuts what goes through a proxy into commands and replies, and tells which reply belongs to which command. */
import { makeCommandReader, makeReplyReader } from './resp.js';
import { describeCommand, type Passage } from './wire.js';

type Described = Pick<Passage, 'name' | 'keys' | 'argv' | 'group' | 'reply'>;

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

/** One request at a time on a connection, as HTTP/1.1 clients without pipelining do it. */
export function makeHttpReader(): Reader {
  let current: Described | undefined;
  let isAnswered = true;
  return {
    fromClient(chunk) {
      const line = isAnswered ? REQUEST_LINE.exec(chunk.toString('latin1', 0, 4_096)) : null;
      if (line === null) return [{ bytes: chunk, arrivedAt: Date.now() }];
      isAnswered = false;
      const path = line[2]!.split('?', 1)[0]!;
      const passage = { name: `${line[1]} ${path}`, keys: [], argv: [], group: undefined };
      return [{ bytes: chunk, arrivedAt: Date.now(), passage }];
    },
    fromServer(chunk) {
      const passage = current;
      current = undefined;
      isAnswered = true;
      const isReply = passage !== undefined;
      return [{ bytes: chunk, arrivedAt: Date.now(), isReply, ...(isReply ? { passage } : {}) }];
    },
    sent(passage) {
      current = passage;
    },
  };
}
