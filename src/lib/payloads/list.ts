/** A list as any sender may write it. */
import { z } from 'zod';

/** Missing and null are the empty one. Nothing is no item: a hole in a list is no reason to refuse the whole. */
export const list = <T extends z.ZodType>(item: T) =>
  z
    .array(item.nullish())
    .nullish()
    .transform((value) => (value ?? []).filter((one) => one !== null && one !== undefined));
