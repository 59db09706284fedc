/** The fault switch of a stand-in: which calls go wrong, how, and how often. */
import type { StandinRequest } from './http.js';

/** What goes wrong with a call. Several may be combined: `{ latencyMs: 50, status: 503 }`. */
export type Fault = {
  /** Waits before anything else happens. */
  latencyMs?: number;
  /** The same, for what a test knows to be over. */
  until?: Promise<unknown>;
  /** Answers this instead of doing the work (see `doneButAnswerLost`). */
  status?: number;
  body?: unknown;
  headers?: Record<string, string>;
  /** Resets the connection before the work. */
  reset?: boolean;
  /** Does the work, then destroys the socket; with a `status`, answers that instead, as a gateway would. */
  doneButAnswerLost?: boolean;
  /** Never answers and does no work; the connection stays open until the client or `stop` closes it. */
  hang?: boolean;
  /** Sends the headers and half of the body at once, the rest after this time. */
  slowBodyMs?: number;
};

/** Which calls a fault hits. What is left out matches all. */
export type Matcher = {
  method?: string;
  /** The whole path, or its beginning when it ends in `*`. */
  path?: string | RegExp;
  when?: (request: StandinRequest) => boolean;
  /** How many calls it hits; for ever when left out. */
  times?: number;
};

export type FaultSwitch = {
  /** Hits the next call (that matches). Earlier switches win. */
  next: (fault: Fault, matcher?: Matcher) => void;
  /** Hits every call that matches, or `times` of them. Returns a function that ends it. */
  on: (matcher: Matcher, fault: Fault) => () => void;
  clear: () => void;
};

export type Switch = { matcher: Matcher; fault: Fault; left: number };

export function makeFaultSwitch(switches: Switch[]): FaultSwitch {
  function on(matcher: Matcher, fault: Fault): () => void {
    const added: Switch = { matcher, fault, left: matcher.times ?? Number.POSITIVE_INFINITY };
    switches.push(added);
    return () => {
      const index = switches.indexOf(added);
      if (index >= 0) switches.splice(index, 1);
    };
  }
  return {
    on,
    next: (fault, matcher = {}) => void on({ ...matcher, times: 1 }, fault),
    clear: () => void switches.splice(0),
  };
}

/** The fault that this call meets, which is counted then. */
export function takeFault(switches: Switch[], request: StandinRequest): Fault | undefined {
  const index = switches.findIndex(({ matcher }) => matches(matcher, request));
  const found = switches[index];
  if (!found) return undefined;
  found.left -= 1;
  if (found.left <= 0) switches.splice(index, 1);
  return found.fault;
}

function matches({ method, path, when }: Matcher, request: StandinRequest): boolean {
  if (method !== undefined && method !== request.method) return false;
  if (path instanceof RegExp && !path.test(request.path)) return false;
  if (typeof path === 'string') {
    const fits = path.endsWith('*') ? request.path.startsWith(path.slice(0, -1)) : request.path === path;
    if (!fits) return false;
  }
  return when?.(request) ?? true;
}
