/** What a test file gets to see of the environment. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** All but the service's settings: a developer's Redis and tokens must never reach a test. */
export function makeTestEnvironment(root: string): NodeJS.ProcessEnv {
  const example = readFileSync(join(root, '.env.example'), 'utf8');
  const settings = new Set([...example.matchAll(/^#?\s*([A-Z][A-Z0-9_]+)=/gm)].map((match) => match[1]!));
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !settings.has(name)));
}
