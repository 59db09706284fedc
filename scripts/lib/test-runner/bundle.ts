/**
 * The service's processes and the tests, each bundled into one script: a process then starts with half the CPU that Node needs
 * to load hundreds of modules, and a run of the tests starts more than a thousand. What runs is the same code; where it asks
 * for a file beside it, it is told where its source stands.
 */
import { mkdtempSync, readFileSync, realpathSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type BuildOptions, build, type Plugin } from 'esbuild';

const PROCESSES = ['src/ingest/main', 'src/consumers/main', 'scripts/gvi', 'test/helpers/worker-script'];
const FAULT_PROCESSES = ['test/faults/workers/burn'];
/** The worker, whose consumers another module makes. */
const POISONED = { process: 'test/faults/workers/poisoned', instead: 'test/faults/workers/poisoned-consumers.ts' };
/** They look for files of their own, or are huge. */
const LEFT_OUT = ['esbuild', 'playwright-core', 'pino-pretty', 'tsx', 'typescript'];
const REQUIRE = `import { createRequire as makeRequire } from 'node:module';\nconst require = makeRequire(import.meta.url);`;

export type Bundle = {
  /** Holds `src/…/main.js`, `scripts/gvi.js`, the workers of the tests, and the tests. */
  dir: string;
  /** Removes it. */
  remove: () => void;
};

/** In a new folder. `tests` are paths from the project's root, as in `test/unit/trail.test.ts`. */
export async function makeBundle(root: string, tests: readonly string[] = []): Promise<Bundle> {
  const dir = mkdtempSync(join(tmpdir(), 'gvi-bundle-'));
  // Where it really is: what cannot be bundled finds its modules by it.
  symlinkSync(realpathSync(join(root, 'node_modules')), join(dir, 'node_modules'));
  const script = (name: string) => join(root, `${name}.ts`);
  const options = { ...optionsFor(dir, root), plugins: [keepPlaces(root)] };
  await Promise.all([
    build({ ...options, entryPoints: [...PROCESSES, ...FAULT_PROCESSES].map(script) }),
    build({
      ...options,
      entryPoints: [script(POISONED.process)],
      plugins: [poisonConsumers(root), ...options.plugins],
    }),
    build({
      ...options,
      entryPoints: tests.map((file) => join(root, file)),
      splitting: true,
      chunkNames: 'chunks/[hash]',
    }),
  ]);
  return { dir, remove: () => rmSync(dir, { recursive: true, force: true }) };
}

function optionsFor(dir: string, root: string): BuildOptions {
  return {
    ...{ bundle: true, platform: 'node', target: 'node20', format: 'esm', outdir: dir, outbase: root },
    ...{ external: LEFT_OUT, banner: { js: REQUIRE }, sourcemap: true, sourcesContent: false, logLevel: 'error' },
  };
}

/** `import.meta` speaks of the source. */
function keepPlaces(root: string): Plugin {
  return {
    name: 'keep places',
    setup({ onLoad }) {
      onLoad({ filter: /\.ts$/ }, ({ path }) => {
        if (!path.startsWith(root) || path.includes('/node_modules/')) return undefined;
        const source = readFileSync(path, 'utf8');
        const contents = source
          .replaceAll('import.meta.url', JSON.stringify(pathToFileURL(path).href))
          .replaceAll('import.meta.dirname', JSON.stringify(dirname(path)));
        return { contents, loader: 'ts' };
      });
    },
  };
}

function poisonConsumers(root: string): Plugin {
  return {
    name: 'poison the consumers',
    setup({ onResolve }) {
      onResolve({ filter: /^\.\/index\.js$/ }, ({ importer }) =>
        importer === resolve(root, 'src/consumers/main.ts') ? { path: resolve(root, POISONED.instead) } : undefined,
      );
    },
  };
}
