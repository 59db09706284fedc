/** Block Kit's limits, as Slack applies them to the blocks that the service sends; any other kind of block is refused. */
import type { SlackBlock } from './slack.js';

export type BlocksFault = { error: 'invalid_blocks'; detail: string } | { error: 'msg_blocks_too_long' };

const BLOCKS_MAX = 50;
const HEADER_LENGTH_MAX = 150;
const SECTION_LENGTH_MAX = 3_000;
const FIELDS_MAX = 10;
const FIELD_LENGTH_MAX = 2_000;
const CONTEXT_ELEMENTS_MAX = 10;
/** Not documented; seen by users of the real service. */
const TOTAL_LENGTH_MAX = 13_200;

/** The first thing that Slack would refuse, if any. */
export function findBlocksFault(blocks: readonly SlackBlock[]): BlocksFault | undefined {
  if (blocks.length > BLOCKS_MAX) return invalid(`no more than ${BLOCKS_MAX} items allowed`, '/blocks');
  for (const [index, block] of blocks.entries()) {
    const fault = findBlockFault(block, `/blocks/${index}`);
    if (fault) return fault;
  }
  const total = blocks.flatMap(textsOf).reduce((sum, text) => sum + text.length, 0);
  return total > TOTAL_LENGTH_MAX ? { error: 'msg_blocks_too_long' } : undefined;
}

function findBlockFault(block: SlackBlock, pointer: string): BlocksFault | undefined {
  switch (block.type) {
    case 'divider':
      return undefined;
    case 'header':
      return findTextFault(block.text, HEADER_LENGTH_MAX, `${pointer}/text`, ['plain_text']);
    case 'section':
      return findSectionFault(block, pointer);
    case 'context': {
      const elements = asList(block.elements);
      if (elements.length === 0) return invalid('no fewer than 1 items allowed', `${pointer}/elements`);
      if (elements.length > CONTEXT_ELEMENTS_MAX) {
        return invalid(`no more than ${CONTEXT_ELEMENTS_MAX} items allowed`, `${pointer}/elements`);
      }
      return firstOf(elements, (element, i) => findTextFault(element, SECTION_LENGTH_MAX, `${pointer}/elements/${i}`));
    }
    default:
      return invalid('unsupported type', `${pointer}/type`);
  }
}

function findSectionFault(block: SlackBlock, pointer: string): BlocksFault | undefined {
  const fields = asList(block.fields);
  if (block.text === undefined && fields.length === 0) return invalid('missing required field: text', pointer);
  if (fields.length > FIELDS_MAX) return invalid(`no more than ${FIELDS_MAX} items allowed`, `${pointer}/fields`);
  const textFault =
    block.text === undefined ? undefined : findTextFault(block.text, SECTION_LENGTH_MAX, `${pointer}/text`);
  return textFault ?? firstOf(fields, (field, i) => findTextFault(field, FIELD_LENGTH_MAX, `${pointer}/fields/${i}`));
}

function findTextFault(
  text: unknown,
  lengthMax: number,
  pointer: string,
  types = ['plain_text', 'mrkdwn'],
): BlocksFault | undefined {
  if (typeof text !== 'object' || text === null) return invalid('must be an object', pointer);
  const { type, text: content } = text as { type?: unknown; text?: unknown };
  if (typeof type !== 'string' || !types.includes(type)) return invalid('unsupported type', `${pointer}/type`);
  if (typeof content !== 'string' || content === '') {
    return invalid('must be more than 0 characters', `${pointer}/text`);
  }
  if (content.length > lengthMax) return invalid(`must be less than ${lengthMax + 1} characters`, `${pointer}/text`);
  return undefined;
}

function textsOf(block: SlackBlock): string[] {
  return [block.text, ...asList(block.fields), ...asList(block.elements)].flatMap((text) => {
    const content = (text as { text?: unknown } | undefined)?.text;
    return typeof content === 'string' ? [content] : [];
  });
}

function firstOf(
  items: readonly unknown[],
  find: (item: unknown, index: number) => BlocksFault | undefined,
): BlocksFault | undefined {
  return items.map(find).find((fault) => fault !== undefined);
}

function asList(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function invalid(detail: string, pointer: string): BlocksFault {
  return { error: 'invalid_blocks', detail: `${detail} [json-pointer:${pointer}]` };
}
