/**
 * Says of places in a bundled script where they stand in its source. Not done by the process itself: its source map takes a
 * second to read on a busy machine, in which a worker that logs its first error would send no heartbeat.
 */
import { readFileSync } from 'node:fs';
import { SourceMap } from 'node:module';
import { dirname, join } from 'node:path';

const PLACE = /([^\s()"\\]+\.script):(\d+):(\d+)/g;

/** What has no map beside it stays as it is. */
export function mapStacks(text: string): string {
  const maps = new Map<string, SourceMap | undefined>();
  return text.replace(PLACE, (place: string, script: string, line: string, column: string) => {
    if (!maps.has(script)) maps.set(script, readMap(`${script}.map`));
    const entry = maps.get(script)?.findEntry(Number(line) - 1, Number(column) - 1);
    if (entry === undefined || !('originalSource' in entry)) return place;
    return `${join(dirname(script), entry.originalSource)}:${entry.originalLine + 1}:${entry.originalColumn + 1}`;
  });
}

function readMap(path: string): SourceMap | undefined {
  try {
    return new SourceMap(JSON.parse(readFileSync(path, 'utf8')));
  } catch {
    return undefined;
  }
}
