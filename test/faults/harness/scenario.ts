/** Ties a world to a test file: started before, shared by its scenarios, told of in full when one fails, stopped after. */
import { relative } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import type { Test } from 'uvu';
import { makeRandom, type Random, seedOfRun } from './random.js';
import { reportWorld } from './report.js';
import { describeLine } from './timeline.js';
import { startWorld, type World, type WorldOptions } from './world.js';

/** The long form: more of everything. */
export const isLong = process.env.FAULTS === 'long';

/** A model for scenarios whose fault is another's: the load of the long form is more than the ten calls a second it grants. */
export function besideFault<T>(gemini: T): T | false {
  return isLong ? false : gemini;
}

/** The one in the short form, the other in the long one. */
export function sized<T extends number | readonly string[]>(short: T, long: T): T {
  return isLong ? long : short;
}

export type Stage = {
  random: Random;
  /** A test that is given the world of its file; after one that failed the next is given another. */
  scenario: (sentence: string, body: (world: World) => Promise<void>) => void;
  /** One that only the long form has. */
  longScenario: (sentence: string, body: (world: World) => Promise<void>) => void;
  /** A test with a world of its own. */
  inOwnWorld: (sentence: string, options: WorldOptions, body: (world: World) => Promise<void>) => void;
};

const LINES_SHOWN = 60;

/** `file` is `import.meta.url`. The world of the file is started with its first scenario. */
export function setStage(test: Test, file: string, options: WorldOptions = {}): Stage {
  const name = relative(process.cwd(), fileURLToPath(file));
  const random = makeRandom(seedOfRun());
  // Proxies, stand-ins and times are the suite's own: where it gets no CPU, everything else seems to hang.
  const stalls = monitorEventLoopDelay({ resolution: 10 });
  let shared: Promise<World> | undefined;

  test.before(() => {
    console.log(`FAULTS_SEED=${random.seed}`);
    stalls.enable();
  });
  test.after(async () => {
    if (shared !== undefined) await end(await shared);
  });

  async function end(world: World): Promise<void> {
    reportWorld(world, name, stallMs());
    await world.stop();
  }

  /** Building the project is no stall. */
  async function start(given: WorldOptions): Promise<World> {
    const world = await startWorld(given);
    stalls.reset();
    return world;
  }

  function stallMs(): number {
    return Math.round(stalls.max / 1e6);
  }

  async function tell(world: World, run: () => Promise<void>): Promise<void> {
    try {
      await run();
    } catch (error) {
      console.log(`The suite itself stood still for at most ${stallMs()} ms.\n${describeWorld(world)}`);
      throw error;
    }
  }

  const scenario: Stage['scenario'] = (sentence, body) => {
    test(sentence, async () => {
      shared ??= start({ ...options, random: random.fork(name) });
      const world = await shared;
      try {
        await tell(world, () => body(world));
      } catch (error) {
        // What went wrong in it would be told of again by every check that follows.
        shared = undefined;
        await end(world);
        throw error;
      }
    });
  };

  return {
    random,
    scenario,
    longScenario: isLong ? scenario : () => {},
    inOwnWorld(sentence, own, body) {
      test(sentence, async () => {
        const world = await start({ ...options, ...own, random: random.fork(sentence) });
        try {
          await tell(world, () => body(world));
        } finally {
          await end(world);
        }
      });
    },
  };
}

/** Faults and the last lines of every process, for whoever must find out why. */
function describeWorld(world: World): string {
  const logs = world.everyPart().flatMap((part) => [
    `--- ${part.name} (${part.isRunning() ? part.pid : 'not running'})`,
    ...part
      .lines()
      .slice(-LINES_SHOWN)
      .map((line) => describeLine(part.name, line).slice(0, 600)),
  ]);
  return ['Faults:', ...world.faultLog.describe(), ...logs].join('\n');
}
