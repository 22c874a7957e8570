import { z } from 'zod';
import { REPOSITORY_FORMATS } from '../packages/plan.ts';
import { CHANNELS, RepositoryName } from '../repository/repository.ts';
import { SOURCE_NAME } from '../source/source.ts';
import { Maker } from './parts.ts';

const source = z.string().regex(SOURCE_NAME);

/** Whose packages are published, how, and to whom first. */
export const CreatePublication = z.strictObject({
  source,
  formats: z
    .array(z.enum(REPOSITORY_FORMATS))
    .min(1)
    .max(REPOSITORY_FORMATS.length)
    .default(['deb']),
  channel: z.enum(CHANNELS).default('staging'),
  /** Publishes nothing new for now. */
  hold: z.boolean().default(false),
});

/** What is to be given to all: of one source, or of all. */
export const Promote = z.strictObject({ source: source.optional() });

/** A source whose packages are published. */
export const PublicationView = z.object({
  source: z.string(),
  formats: z.array(z.enum(REPOSITORY_FORMATS)).readonly(),
  channel: z.enum(CHANNELS),
  isHeld: z.boolean(),
  /** Why not all of its packages are published. */
  problem: z.string().nullable(),
  madeBy: Maker,
  createdAt: z.number(),
});
export type PublicationView = z.infer<typeof PublicationView>;

/** A repository. */
export const RepositoryView = z.object({
  ...RepositoryName.shape,
  /** The names and versions of its packages. */
  packages: z.array(z.object({ name: z.string(), version: z.string() })).readonly(),
  /** Whether the index that is served has all of them. */
  isCurrent: z.boolean(),
  isServed: z.boolean(),
  madeAt: z.number(),
  validUntil: z.number(),
  problem: z.string().nullable(),
});
export type RepositoryView = z.infer<typeof RepositoryView>;

/** All that is published. */
export const RepositoriesView = z.object({
  publications: z.array(PublicationView).readonly(),
  repositories: z.array(RepositoryView).readonly(),
  /** The key that signs them, armored (OpenPGP). */
  key: z.string().max(64 * 1024),
});
export type RepositoriesView = z.infer<typeof RepositoriesView>;
