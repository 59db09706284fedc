/**
 * The prompts are files for people to read and change. A change of meaning is a new file (`enrich.v2.md`): the highest
 * number is used, and its name stands in every event that it had a part in.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export type Prompt = {
  text: string;
  /** The file's name without its ending, as in `enrich.v1`. */
  version: string;
};

const PROMPTS_DIR = import.meta.dirname;

/** Reads the newest version of a prompt. Throws when there is none: meant for start-up. */
export function readPrompt(name: string, dir: string = PROMPTS_DIR): Prompt {
  const versions = readdirSync(dir).flatMap((file) => {
    const [, stem, number] = /^((?:[a-z-]+)\.v(\d+))\.md$/.exec(file) ?? [];
    return stem?.startsWith(`${name}.v`) ? [{ file, stem, number: Number(number) }] : [];
  });
  const newest = versions.sort((a, b) => b.number - a.number)[0];
  if (!newest) throw new Error(`no prompt ${name}.v<number>.md in ${dir}`);
  return { text: readFileSync(join(dir, newest.file), 'utf8').trim(), version: newest.stem };
}

/** Puts data between tags that nothing in it can close: its own angle brackets become typographic ones. */
export function delimit(tag: string, data: string): string {
  return `<${tag}>\n${data.replaceAll('<', '‹').replaceAll('>', '›')}\n</${tag}>`;
}
