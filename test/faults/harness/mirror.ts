/**
 * The same stories told of other people, so that two runs in one world can be compared: every name, address and id that
 * `Random.id` made carries the mark of its stream, which is replaced by another.
 */
import type { Random } from './random.js';
import type { Delivery } from './stories.js';
import type { World } from './world.js';

export type Mirror = {
  /** Of these people. */
  reflect: (deliveries: readonly Delivery[]) => Delivery[];
  /** Their leads with notes, by address, as if they were the first people's; without ids and times of the CRM's own. */
  readCrm: (world: World) => Record<string, unknown>;
};

/** `name` is that of the fork which the stories were made with; `reflection` tells this mirror from others. */
export function makeMirror(random: Random, name: string, reflection: string): Mirror {
  const mark = markOf(random.fork(name));
  const ownMark = reflection === '' ? mark : markOf(random.fork(`${name} ${reflection}`));
  const reflectText = (text: string) => exchange(text, mark, ownMark);

  return {
    reflect: (deliveries) =>
      deliveries.map((delivery) => ({
        ...delivery,
        ...{ key: reflectText(delivery.key), email: reflectText(delivery.email), body: reflectText(delivery.body) },
      })),
    readCrm({ zoho }) {
      const own = zoho.leads().filter(({ Email }) => String(Email).includes(ownMark));
      const notes = zoho.notes();
      const entries = own.map(({ id, Created_Time: _created, Modified_Time: _modified, ...fields }) => {
        const ofLead = notes
          .filter(({ parentId }) => parentId === id)
          .map(({ title, content }) => ({
            title,
            content,
            marker: exchange(content.split('\n').at(-1)!, ownMark, mark),
          }));
        const byMarker = ofLead.sort((a, b) => (a.marker < b.marker ? -1 : 1));
        return [String(fields.Email), { fields: Object.fromEntries(Object.entries(fields).sort()), notes: byMarker }];
      });
      return JSON.parse(exchange(JSON.stringify(Object.fromEntries(entries.sort())), ownMark, mark));
    },
  };
}

function markOf(fork: Random): string {
  return fork.id('').replace(/x1$/, 'x');
}

function exchange(text: string, from: string, to: string): string {
  return text.replaceAll(from, to).replaceAll(from.toUpperCase(), to.toUpperCase());
}
