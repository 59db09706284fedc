/** Bundles the service's processes, for a test file that is run by hand: prints the folder, which is the caller's to remove. */
import { join } from 'node:path';
import { makeBundle } from './lib/test-runner/bundle.js';

console.log((await makeBundle(join(import.meta.dirname, '..'))).dir);
