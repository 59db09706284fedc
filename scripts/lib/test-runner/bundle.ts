/**
 * The service's processes and the tests, bundled: a process then starts with a third of the CPU that Node needs to load
 * hundreds of modules, and a run of the tests starts more than a thousand. What runs is the same code; where it asks for a file
 * beside it, it is told where its source stands.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdtempSync, readFileSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type BuildOptions, build, type Plugin, stop } from 'esbuild';

const PROCESSES = [
  ...['src/ingest/main', 'src/consumers/main', 'scripts/gvi'],
  ...['test/helpers/worker-script', 'test/faults/workers/burn'],
];
/** The worker, whose consumers another module makes. */
const POISONED = { process: 'test/faults/workers/poisoned', instead: 'test/faults/workers/poisoned-consumers.ts' };
const START = join(import.meta.dirname, 'start-bundled.cjs');
/** They look for files of their own, or are huge. */
const LEFT_OUT = ['esbuild', 'playwright-core', 'pino-pretty', 'tsx', 'typescript'];
const REQUIRE = `import { createRequire as makeRequire } from 'node:module';\nconst require = makeRequire(import.meta.url);`;

export type Bundle = {
  /** Holds `src/…/main.cjs`, `scripts/gvi.cjs`, the workers of the tests, and the tests as in `test/unit/trail.test.js`. */
  dir: string;
  /** Removes it. */
  remove: () => void;
};

/** In a new folder. `tests` are paths from the project's root, as in `test/unit/trail.test.ts`. */
export async function makeBundle(root: string, tests: readonly string[] = []): Promise<Bundle> {
  const dir = mkdtempSync(join(tmpdir(), 'gvi-bundle-'));
  // Where it really is: what cannot be bundled finds its modules by it.
  symlinkSync(realpathSync(join(root, 'node_modules')), join(dir, 'node_modules'));
  writeFileSync(join(dir, 'package.json'), '{ "type": "module" }\n');
  const common: BuildOptions = {
    ...{ bundle: true, platform: 'node', target: 'node20', outdir: dir, outbase: root, minifyWhitespace: true },
    ...{ external: LEFT_OUT, sourcemap: true, sourcesContent: false, logLevel: 'error', plugins: [keepPlaces(root)] },
  };
  const plugins = [keepPlaces(root), loadHttp2Late()];
  const scripts: BuildOptions = { ...common, format: 'cjs', outExtension: { '.js': '.script' }, plugins };
  await Promise.all([
    build({ ...scripts, entryPoints: PROCESSES.map((name) => join(root, `${name}.ts`)) }),
    build({
      ...scripts,
      entryPoints: [join(root, `${POISONED.process}.ts`)],
      plugins: [poisonConsumers(root), ...plugins],
    }),
    build({
      ...common,
      ...{ format: 'esm', splitting: true, chunkNames: 'chunks/[hash]', banner: { js: REQUIRE } },
      entryPoints: tests.map((file) => join(root, file)),
    }),
  ]);
  // Its own process would stay beside the tests.
  await stop();
  await Promise.all([...PROCESSES, POISONED.process].map((name) => addStart(join(dir, name))));
  return { dir, remove: () => rmSync(dir, { recursive: true, force: true }) };
}

/** The process refuses its settings, once all of it is loaded. */
async function addStart(path: string): Promise<void> {
  copyFileSync(START, `${path}.cjs`);
  const env = { PATH: process.env.PATH, PORT: 'none', FILL_CODE_CACHE: '1' };
  await once(spawn(process.execPath, [`${path}.cjs`], { env, stdio: 'ignore' }), 'exit');
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

/** Of got's modules the one for HTTP/2, which nobody asks for, takes a tenth of a start: it makes a TLS context to look at. */
function loadHttp2Late(): Plugin {
  const [name, namespace] = ['http2-wrapper', 'late'];
  return {
    name: 'load HTTP/2 late',
    setup({ onResolve, onLoad }) {
      onResolve({ filter: new RegExp(`^${name}$`) }, (args) =>
        args.namespace === namespace ? undefined : { path: name, namespace, pluginData: args.resolveDir },
      );
      onLoad({ filter: /./, namespace }, ({ pluginData }) => ({
        contents: `export default { get auto() { return require('${name}').auto; } };`,
        resolveDir: pluginData,
      }));
    },
  };
}

function poisonConsumers(root: string): Plugin {
  return {
    name: 'poison the consumers',
    setup({ onResolve }) {
      onResolve({ filter: /^\.\/index\.js$/ }, ({ importer }) =>
        importer === join(root, 'src/consumers/main.ts') ? { path: join(root, POISONED.instead) } : undefined,
      );
    },
  };
}
