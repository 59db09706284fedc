/**
 * Starts a bundled process with what V8 made of its script before, which halves what a start costs once more. Stands in the
 * bundle under the name of each process, beside the script and the cache; with `FILL_CODE_CACHE` set it makes the cache.
 */
const { readFileSync, writeFileSync } = require('node:fs');
const Module = require('node:module');
const { basename, dirname, join } = require('node:path');
const { Script } = require('node:vm');

const dir = dirname(__filename);
const name = basename(__filename, '.cjs');
const file = join(dir, `${name}.script`);
const cache = join(dir, `${name}.cache`);

const isToFill = process.env.FILL_CODE_CACHE !== undefined;
const script = new Script(Module.wrap(readFileSync(file, 'utf8')), {
  filename: file,
  ...(isToFill ? {} : { cachedData: readFileSync(cache) }),
});
if (isToFill) process.once('exit', () => writeFileSync(cache, script.createCachedData()));

script.runInThisContext().call(module.exports, module.exports, require, module, file, dir);
