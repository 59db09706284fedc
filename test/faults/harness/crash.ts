/**
 * Crash points without a hook in the service: every boundary between two steps of a stage is a message on a wire, so a
 * process is killed when the message has gone so far and no further.
 */
import type { Matcher } from './links.js';
import type { Part } from './parts.js';
import type { World } from './world.js';

export type CrashPoint = Matcher & {
  /** As in `crm-sync: after the upsert, before its receipt`. */
  point: string;
};

export type Crash = {
  point: string;
  /** Resolves with who was hit: once it is gone, where it was killed. */
  hit: Promise<Part>;
  wasHit: () => boolean;
  disarm: () => void;
};

/**
 * SIGKILLs the process whose command or call fits, the first time (or the `nth`): `before`, it goes no further; `after`, it
 * was executed and the answer is not passed on.
 */
export function crashAt(world: World, point: CrashPoint, options: { nth?: number } = {}): Crash {
  return strikeAt(world, point, options, (part) => part.kill({ note: point.point }));
}

/** The same, but the process lives on: it only loses its connection there, and with it the command or the answer. */
export function cutAt(world: World, point: CrashPoint, options: { nth?: number } = {}): Crash {
  return strikeAt(world, point, options, async ({ name }) => {
    const fault = world.faultLog.add(`${point.when === 'before' ? 'command' : 'answer'} lost`, name, {
      note: point.point,
    });
    fault.healedAt = fault.at;
  });
}

function strikeAt(
  world: World,
  { point, ...matcher }: CrashPoint,
  { nth = 1 }: { nth?: number },
  strike: (part: Part) => Promise<unknown>,
): Crash {
  let left = nth;
  let wasHit = false;
  let tell: (part: Part) => void;
  const hit = new Promise<Part>((resolve) => {
    tell = resolve;
  });
  const disarm = world.links.onCommand(matcher, ({ owner }) => {
    left -= 1;
    if (left > 0) return undefined;
    disarm();
    wasHit = true;
    const part = world.part(owner);
    void strike(part).then(() => tell(part));
    return 'cut';
  });
  return { point, hit, wasHit: () => wasHit, disarm };
}
