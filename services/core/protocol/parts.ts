import { z } from 'zod';
import { isKernelRelease } from '../kernel/kernel.ts';
import { ROLES } from '../policy/policy.ts';
import { SETTINGS_LIMIT } from '../source/source.ts';

/** The wire between client and service: what `/v1` takes and gives, in one folder for both sides. This file has what the others share. */

/** A text of 1 to `max` characters. */
export const text = (max: number) => z.string().min(1).max(max);
/** What names a record in addresses and paths: no way up, nothing that commands a terminal. */
export const id = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$/);

/** What `uname -r` says. */
export const release = z.string().refine(isKernelRelease, { error: 'expected a kernel release' });
/** What a token may be used for. */
export const role = z.enum(ROLES);

/** Names with values, in order; names may repeat. */
export const pairs = z.array(z.tuple([z.string(), z.string()]).readonly()).readonly();
/** The name of a Debian package. */
export const packageName = z.string().regex(/^[a-z0-9][a-z0-9.+-]{0,99}$/);

/** Settings files: text by absolute path; `core/source/source.ts` checks the paths. */
export const settings = z.record(text(256), z.string().max(SETTINGS_LIMIT));

/** The token that made a record, or a part of the service itself. */
export const Maker = z.object({ id: z.string(), name: z.string() });
export type Maker = z.infer<typeof Maker>;

/** The most items of one page of a list. */
export const PAGE = 200;

/** The page of a list that is asked for: so many items, those after the place that a page names as its `next`. */
export const PageQuery = z.object({
  after: z.string().max(1024).optional(),
  limit: z.coerce.number().int().min(1).max(PAGE).default(PAGE),
});
export type PageQuery = z.output<typeof PageQuery>;

/** A whole list. */
export const list = <T extends z.ZodType>(item: T) => z.object({ items: z.array(item) });

/** A page of a list. `next` is the place to go on from; `null` at the list's end. */
export const page = <T extends z.ZodType>(item: T) =>
  z.object({ items: z.array(item), next: z.string().max(1024).nullable() });
