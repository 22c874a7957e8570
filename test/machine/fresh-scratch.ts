import { rm } from 'node:fs/promises';
import { scratch } from './make-source.ts';

/** Before each test file: what the one before it in this worker left in its temporary directories goes. */
await rm(scratch(), { recursive: true, force: true });
