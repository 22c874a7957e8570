import { describe, expect, it } from '@jest/globals';
import { createBuildTeller } from '../../client/dkms/build-log.ts';

const HOME = '/var/lib/dkms/a/1/build';

/** Feeds a log in pieces, and gives what was said. */
const tell = (pieces: readonly string[], isBuilt = true) => {
  let said = '';
  const teller = createBuildTeller(
    { write: (text) => void (said += text), say: (line) => void (said += `${line}\n`) },
    HOME,
  );
  for (const piece of pieces) teller.feed(piece);
  const failed = teller.end(isBuilt, ['Signing module x']);
  return { said, failed, log: teller.log() };
};

describe('a build’s log', () => {
  it('is told of step by step, what was signed behind make', () => {
    const { said, failed } = tell([
      "kiln: patch: patch -p1 < ./patches/'fix.patch'\npatching file a.c\nkiln: pre-build: pre.sh 6.1\nkiln: ma",
      'ke: make -j2 all\n  CC a.o\nkiln: post-build: post.sh\n',
    ]);
    expect(failed).toBeNull();
    expect(said).toBe(
      'Applying patch fix.patch... done.\nRunning the pre_build script... done.\nBuilding module(s)... done.\nSigning module x\nRunning the post_build script... done.\n',
    );
  });

  it('that ends in a failed step names its command', () => {
    const { said, failed } = tell(
      ["kiln: make: make -j2 all\na.c:1: error: no\nkiln: step 'make' ended with exit status 2\n"],
      false,
    );
    expect(failed).toMatchObject({ label: 'make', status: 2 });
    expect(said).toBe('Building module(s)...(bad exit status: 2)\nFailed command:\nmake -j2 all\n');
  });

  it('becomes a log as dkms writes it, with the words of each step in it', () => {
    const { log } = tell(['kiln: make: make all\n  CC a.o\nkiln: note\n']);
    expect(log).toMatch(
      /^\nBuilding module\(s\)\n# command: make all\n {2}CC a\.o\n\n# exit code: 0\n# elapsed time: 00:00:00\n-{64}\n$/,
    );
  });

  it('that has a step of its own words in the middle of a line is not taken in', () => {
    const { said } = tell(['kiln: make: make all\necho kiln: patch: no\n']);
    expect(said).toBe('Building module(s)... done.\nSigning module x\n');
  });
});
