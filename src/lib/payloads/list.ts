/** A list as any sender may write it. */
import { z } from 'zod';

/** What is wrong with some of a list says enough: to describe it for each of very many items takes seconds and gigabytes. */
const ISSUES_MAX = 10;

/** Missing and null are the empty one. Nothing is no item: a hole in a list is no reason to refuse the whole. */
export const list = <T extends z.ZodType>(item: T) =>
  z
    .array(z.unknown())
    .nullish()
    .transform((value, context) => {
      const items: z.output<T>[] = [];
      for (const [index, one] of (value ?? []).entries()) {
        if (one === null || one === undefined) continue;
        const parsed = item.safeParse(one);
        if (parsed.success) items.push(parsed.data);
        else {
          for (const { path, message } of parsed.error.issues) {
            context.addIssue({ code: 'custom', path: [index, ...path], message });
          }
        }
        if (context.issues.length >= ISSUES_MAX) break;
      }
      return items;
    });
