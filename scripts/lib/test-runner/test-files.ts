/** Which test files there are, and whether each of them runs all it declares. */
import { existsSync, readdirSync } from 'node:fs';
import { join, relative, sep } from 'node:path';

export const TEST_FOLDERS = ['test/unit', 'test/integration', 'test/faults'] as const;

const DECLARATION = /\b(?:const|let)\s+(\w+)\s*=\s*suite\b/g;

/** All `*.test.ts` under a folder of the project, as sorted paths relative to its root, with forward slashes. */
export function findTestFiles(root: string, folder: string): string[] {
  const start = join(root, folder);
  if (!existsSync(start)) return [];
  return readdirSync(start, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.ts'))
    .map((name) => relative(root, join(start, name)).split(sep).join('/'))
    .sort();
}

/** The files that a filter names: a file, a folder, or part of a path. */
export function matchFilter(files: readonly string[], filter: string): string[] {
  const part = filter.replace(/^\.\//, '');
  return files.filter((file) => file.includes(part));
}

/** What would pass in silence: suites never run, tests hidden by `only`. One sentence each; empty when all is well. */
export function findSilentTests(source: string): string[] {
  const names = [...source.matchAll(DECLARATION)].map((match) => match[1]!);
  if (names.length === 0) return ['declares no suite'];
  const problems: string[] = [];
  for (const name of new Set(names)) {
    const declared = names.filter((other) => other === name).length;
    const runs = source.match(new RegExp(`^\\s*${name}\\.run\\(\\);`, 'gm'))?.length ?? 0;
    if (runs !== declared) problems.push(`declares the suite ${name} ${declared} times and runs it ${runs} times`);
    if (new RegExp(`\\b${name}\\.only\\(`).test(source)) problems.push(`hides the other tests of ${name} by only`);
  }
  return problems;
}
