/**
 * What a consumer is: a name, the events it hears, the events it may answer with, and one function. Reading,
 * acknowledging, retrying, reclaiming and fencing are the runtime's (`runtime/`); a consumer never does any of it.
 */
import type { Logger } from 'pino';
import type { Provider } from './errors.js';
import type { EventType, GroupName, NewEvent, StoredEvent } from './events.js';

export type Context = {
  /** Aborted when the worker must let go: claim lost, or the grace of a shutdown is over. Pass it to every call. */
  signal: AbortSignal;
  log: Logger;
  now: () => Date;
  /** Reads an entry by its event id: how a stage refers to the webhook instead of carrying it on. */
  read: (eventId: string) => Promise<StoredEvent | undefined>;
  /** The event was let through to find out whether a provider is back. In a batch that is each delivery's own. */
  isProbe?: boolean | undefined;
};

/** One event handed to a batch consumer, with what only the runtime knows of it. */
export type Delivery<T extends EventType = EventType> = {
  event: StoredEvent<T>;
  /** 1 for the first attempt. */
  attempt: number;
  /** It was let through to find out whether a provider is back: what waits for no need is to be done at once. */
  isProbe?: boolean;
};

/**
 * What became of one event of a batch: follow-on events, or the error it failed with. `isWithoutProvider`: it was done although
 * the provider did not answer, and says nothing of its return.
 */
export type Outcome<T extends EventType = EventType> =
  | { events: NewEvent<T>[]; isWithoutProvider?: boolean }
  | { error: unknown };

type Common<In extends EventType, Out extends EventType> = {
  /** Also the name of the Redis consumer group. */
  name: GroupName;
  on: readonly In[];
  emits: readonly Out[];
  /** The providers without which nothing can be done for this event: while one is paused the event waits for it. */
  needs?: (event: StoredEvent<In>) => readonly Provider[];
  /** Called every few seconds, by one worker at a time, for what no event brings about. */
  tick?: (context: Pick<Context, 'log' | 'now' | 'signal'>) => Promise<void>;
  /** What is written instead of `event.failed` when an entry is given up; the event is absent where it can't be read. */
  givenUp?: (eventId: string, event: StoredEvent<In> | undefined, context: Pick<Context, 'log'>) => NewEvent<Out>[];
};

export type SingleConsumer<In extends EventType = EventType, Out extends EventType = EventType> = Common<In, Out> & {
  /** Follow-on events; an empty list where there is nothing to do. Throw one of `errors.ts` to fail. */
  handle: (event: StoredEvent<In>, context: Context) => Promise<NewEvent<Out>[]>;
};

export type BatchConsumer<In extends EventType = EventType, Out extends EventType = EventType> = Common<In, Out> & {
  /** The most events that one call takes. */
  batchMax: number;
  /**
   * One event may be what its whole batch fails of: those that fail with one and the same error are tried again in smaller
   * batches, and in the end alone, before it costs any of them an attempt.
   */
  retriesApart?: boolean;
  /** One outcome per delivery, in the same order; a throw fails every event of the batch. */
  handleBatch: (deliveries: readonly Delivery<In>[], context: Context) => Promise<Outcome<Out>[]>;
  /** Told which events of a batch are done and their follow-ons appended. May be missed: a crash comes in between. */
  settled?: (events: readonly StoredEvent<In>[]) => Promise<void>;
};

// biome-ignore lint/suspicious/noExplicitAny: consumers of different events stand in one list; each is checked where it is defined
export type Consumer = SingleConsumer<any, any> | AnyBatchConsumer;
// biome-ignore lint/suspicious/noExplicitAny: as above
export type AnyBatchConsumer = BatchConsumer<any, any>;

/**
 * `emits` alone fixes `Out`: without `NoInfer` TypeScript widens it with whatever `handle` returns, and an undeclared
 * event would compile.
 */
export function defineConsumer<const In extends EventType, const Out extends EventType>(consumer: {
  name: GroupName;
  on: readonly In[];
  emits: readonly Out[];
  needs?: (event: NoInfer<StoredEvent<In>>) => readonly Provider[];
  tick?: (context: Pick<Context, 'log' | 'now' | 'signal'>) => Promise<void>;
  givenUp?: (
    eventId: string,
    event: NoInfer<StoredEvent<In>> | undefined,
    context: Pick<Context, 'log'>,
  ) => NoInfer<NewEvent<Out>>[];
  handle: (event: NoInfer<StoredEvent<In>>, context: Context) => Promise<NoInfer<NewEvent<Out>>[]>;
}): SingleConsumer<In, Out> {
  return consumer;
}

/** The batch form of `defineConsumer`. */
export function defineBatchConsumer<const In extends EventType, const Out extends EventType>(consumer: {
  name: GroupName;
  on: readonly In[];
  emits: readonly Out[];
  needs?: (event: NoInfer<StoredEvent<In>>) => readonly Provider[];
  tick?: (context: Pick<Context, 'log' | 'now' | 'signal'>) => Promise<void>;
  givenUp?: (
    eventId: string,
    event: NoInfer<StoredEvent<In>> | undefined,
    context: Pick<Context, 'log'>,
  ) => NoInfer<NewEvent<Out>>[];
  batchMax: number;
  retriesApart?: boolean;
  handleBatch: (deliveries: readonly NoInfer<Delivery<In>>[], context: Context) => Promise<NoInfer<Outcome<Out>>[]>;
  settled?: (events: readonly NoInfer<StoredEvent<In>>[]) => Promise<void>;
}): BatchConsumer<In, Out> {
  return consumer;
}
