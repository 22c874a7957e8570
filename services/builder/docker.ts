import { once } from 'node:events';
import { Readable, type Duplex } from 'node:stream';
import Docker from 'dockerode';
import { extract } from 'tar-stream';
import type { BuildUsers } from '../core/sandbox/build-users.ts';
import { digestOf, type Digest } from '../core/digest.ts';
import { KilnError } from '../core/errors.ts';

/** The one file that talks to Docker. It knows containers, not builds. */

/** A container to run once: what is in it and all that it may do. */
export interface ContainerSpec {
  readonly image: string;
  readonly command: readonly string[];
  /** The ids that it may run as, user and group; no other container has the same one meanwhile. */
  readonly users: BuildUsers;
  readonly hostname: string;
  readonly environment: Readonly<Record<string, string>>;
  /** Directories of the host, read-only. */
  readonly mounts: readonly { readonly from: string; readonly at: string }[];
  /** Directories in memory, with their size in bytes; they belong to its user and may hold programs. */
  readonly scratch: readonly { readonly at: string; readonly size: number }[];
  /** Paths that are hidden: files look empty, directories have no entries. */
  readonly hidden: readonly string[];
  /** The profile of system calls that it may make, as JSON. */
  readonly seccomp: string;
  readonly memory: number;
  readonly pids: number;
  readonly cpus: number;
  /** Labels by which a later run finds and removes what an earlier one left. */
  readonly labels: Readonly<Record<string, string>>;
  /** An OCI runtime that Docker knows (`runc`, `runsc`). */
  readonly runtime: string;
}

/** How a container ended. */
export interface ContainerEnd {
  readonly exitCode: number;
  readonly isOutOfMemory: boolean;
}

/** Gets what a container writes, piece by piece, and may write to its input. Slow handling slows the container. */
export type OutputHandler = (
  channel: 'stdout' | 'stderr',
  piece: Buffer,
  input: Duplex,
) => void | Promise<void>;

/** What Kiln needs of a container engine. */
export interface ContainerEngine {
  /**
   * Runs a container to its end and removes it, whatever happens. Aborting the signal, or a handler that throws, kills it
   * and rejects with that reason. Rejects, too, where somebody else removes it before its end.
   */
  run(spec: ContainerSpec, onOutput: OutputHandler, signal: AbortSignal): Promise<ContainerEnd>;
  /** Removes every container that carries this label, running or not. */
  removeLabelled(label: string): Promise<void>;
  /** The id of the image that consists of exactly this root file system, or `null`. */
  findImage(rootfs: Digest): Promise<string | null>;
  /** Makes an image of a root file system; Docker's own digest of it must be `rootfs`. Returns its id. */
  importImage(rootfs: Digest, tar: Readable): Promise<string>;
  /** Bytes that the image of exactly this root file system takes; `null` where there is none. */
  imageSize(rootfs: Digest): Promise<number | null>;
  /**
   * Removes the image of exactly this root file system; one that is not there is no error. False where it stays: a container has it,
   * running or not, or somebody has given it a name.
   */
  removeImage(rootfs: Digest): Promise<boolean>;
  /** Texts of files of a directory of the engine's host, by name, each of at most `limit` bytes; those that are missing are left out. */
  readHostFiles(
    directory: string,
    names: readonly string[],
    limit: number,
  ): Promise<ReadonlyMap<string, string>>;
  /** Rejects unless the engine answers. */
  ping(): Promise<void>;
}

const IMAGE_LABEL = 'kiln.toolchain';
/** The digest of the tarball that has no entry. */
const EMPTY_LAYER = digestOf(Buffer.alloc(1024));

/** The engine behind Docker's socket. */
export const connectDocker = (socketPath: string): ContainerEngine => {
  const docker = new Docker({ socketPath });

  const findImage = async (rootfs: Digest): Promise<string | null> => {
    const images = await docker.listImages({ filters: { label: [`${IMAGE_LABEL}=${rootfs}`] } });
    for (const { Id } of images) {
      const { RootFS } = await docker.getImage(Id).inspect();
      if (RootFS.Layers?.length === 1 && RootFS.Layers[0] === rootfs) return Id;
    }
    return null;
  };

  const importImage = async (rootfs: Digest, tar: Readable): Promise<string> => {
    const progress = await docker.importImage(tar, {
      changes: `LABEL ${IMAGE_LABEL}=${rootfs}`,
    });
    progress.resume();
    await once(progress, 'end');
    const id = await findImage(rootfs);
    if (id === null)
      throw new KilnError('internal', `Docker’s image of the root file system is not ${rootfs}`);
    return id;
  };

  /**
   * Creates a container with a user of its own. The user is in the container's name, which Docker gives only once: so the user is taken
   * until the container is gone, for all builders on this Docker, even if the builder is killed.
   */
  const create = async (spec: ContainerSpec): Promise<Docker.Container> => {
    const { first, last } = spec.users;
    for (let user = first; user <= last; user += 1) {
      try {
        const options = createOptions(spec, user);
        return await docker.createContainer({ ...options, name: `kiln-user-${user}` });
      } catch (error) {
        if (!hasStatus(error, 409)) throw error;
      }
    }
    throw new Error(
      `every user id from ${first} to ${last} is taken by a running build; make KILN_BUILD_USERS a wider range`,
    );
  };

  return {
    findImage,
    importImage,

    async imageSize(rootfs) {
      const id = await findImage(rootfs);
      return id === null ? null : (await docker.getImage(id).inspect()).Size;
    },

    async removeImage(rootfs) {
      const id = await findImage(rootfs);
      if (id === null) return true;
      const image = docker.getImage(id);
      if ((await image.inspect()).RepoTags.length > 0) return false;
      try {
        await image.remove();
        return true;
      } catch (error) {
        if (hasStatus(error, 404)) return true;
        if (hasStatus(error, 409)) return false;
        throw error;
      }
    },

    async readHostFiles(directory, names, limit) {
      const image =
        (await findImage(EMPTY_LAYER)) ??
        (await importImage(EMPTY_LAYER, Readable.from([Buffer.alloc(1024)])));
      // The container is never started: Docker hands out files of its mounts all the same.
      const container = await docker.createContainer({
        Image: image,
        Cmd: ['none'],
        HostConfig: {
          Mounts: [{ Type: 'bind', Source: directory, Target: '/host', ReadOnly: true }],
        },
      });
      try {
        const texts = new Map<string, string>();
        for (const name of names) {
          const tarball = await container.getArchive({ path: `/host/${name}` }).catch(ifMissing);
          if (tarball !== null) texts.set(name, await onlyFile(tarball as Readable, limit));
        }
        return texts;
      } finally {
        await remove(container);
      }
    },

    async removeLabelled(label) {
      const left = await docker.listContainers({ all: true, filters: { label: [label] } });
      for (const { Id } of left) await remove(docker.getContainer(Id));
    },

    async ping() {
      await docker.ping();
    },

    async run(spec, onOutput, signal) {
      signal.throwIfAborted();
      const container = await create(spec);
      const kill = (): void => void container.kill().catch(() => {});
      signal.addEventListener('abort', kill, { once: true });
      try {
        const stream = (await container.attach({
          stream: true,
          stdin: true,
          stdout: true,
          stderr: true,
          hijack: true,
        })) as Duplex;
        // Asked before the start and without 'next-exit', Docker would answer 0 at once.
        const ended = container.wait({ condition: 'next-exit' }) as Promise<{ StatusCode: number }>;
        ended.catch(() => {});
        await container.start();
        if (signal.aborted) kill();
        for await (const { channel, piece } of demultiplex(stream))
          await onOutput(channel, piece, stream);
        const { StatusCode } = await ended;
        signal.throwIfAborted();
        const { State } = await container.inspect();
        // Somebody else is removing the container: the exit status is not the program's own.
        if (State.Status === 'removing') throw new Error('the container was removed from outside');
        return { exitCode: StatusCode, isOutOfMemory: State.OOMKilled };
      } catch (error) {
        signal.throwIfAborted();
        throw error;
      } finally {
        signal.removeEventListener('abort', kill);
        await remove(container);
      }
    },
  };
};

const remove = async (container: Docker.Container): Promise<void> => {
  try {
    await container.remove({ force: true, v: true });
  } catch (error) {
    if (!hasStatus(error, 404) && !hasStatus(error, 409)) throw error;
  }
};

const hasStatus = (error: unknown, status: number): boolean =>
  error instanceof Error && 'statusCode' in error && error.statusCode === status;

const ifMissing = (error: unknown): null => {
  if (hasStatus(error, 404)) return null;
  throw error;
};

/** The text of the one file that a tarball is of. */
const onlyFile = async (tarball: Readable, limit: number): Promise<string> => {
  const pieces: Buffer[] = [];
  let size = 0;
  const unpacked = tarball.pipe(extract());
  for await (const entry of unpacked) {
    for await (const piece of entry as AsyncIterable<Buffer>) {
      size += piece.length;
      if (size > limit) throw new Error(`a file of the host is over ${limit} bytes`);
      pieces.push(piece);
    }
  }
  return Buffer.concat(pieces).toString('utf8');
};

const createOptions = (spec: ContainerSpec, user: number): Docker.ContainerCreateOptions => {
  return {
    Image: spec.image,
    Cmd: [...spec.command],
    User: `${user}:${user}`,
    Hostname: spec.hostname,
    WorkingDir: '/',
    Env: Object.entries(spec.environment).map(([name, value]) => `${name}=${value}`),
    Labels: { ...spec.labels },
    AttachStdin: true,
    AttachStdout: true,
    AttachStderr: true,
    OpenStdin: true,
    StdinOnce: true,
    NetworkDisabled: true,
    HostConfig: {
      Runtime: spec.runtime,
      NetworkMode: 'none',
      ReadonlyRootfs: true,
      CapDrop: ['ALL'],
      SecurityOpt: ['no-new-privileges', `seccomp=${spec.seccomp}`],
      MaskedPaths: [...spec.hidden],
      IpcMode: 'none',
      Memory: spec.memory,
      MemorySwap: spec.memory,
      PidsLimit: spec.pids,
      NanoCpus: Math.round(spec.cpus * 1e9),
      OomScoreAdj: 500,
      Ulimits: [
        { Name: 'core', Soft: 0, Hard: 0 },
        { Name: 'nofile', Soft: 4096, Hard: 4096 },
      ],
      LogConfig: { Type: 'none', Config: {} },
      Mounts: spec.mounts.map(({ from, at }) => ({
        Type: 'bind',
        Source: from,
        Target: at,
        ReadOnly: true,
      })),
      Tmpfs: Object.fromEntries(
        spec.scratch.map(({ at, size }) => [
          at,
          `rw,exec,nosuid,nodev,size=${size},mode=0755,uid=${user},gid=${user}`,
        ]),
      ),
    },
  };
};

/** Splits Docker's one stream into stdout and stderr: frames of an 8-byte header (channel, length) and the bytes. */
async function* demultiplex(
  stream: Duplex,
): AsyncGenerator<{ channel: 'stdout' | 'stderr'; piece: Buffer }> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    while (rest.length >= 8) {
      const size = rest.readUInt32BE(4);
      if (rest.length < 8 + size) break;
      yield { channel: rest[0] === 2 ? 'stderr' : 'stdout', piece: rest.subarray(8, 8 + size) };
      rest = rest.subarray(8 + size);
    }
  }
}
