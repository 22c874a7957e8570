import { digestOf, hexOf } from '../digest.ts';
import { planPackage } from '../packages/plan-package.ts';
import type { RepositoryIndex } from './index-of.ts';
import { poolPath, suiteName, type RepositoryContent } from './repository.ts';

/** The index of a repository for apt (source: the Debian repository format, version 1.0). */

/** Architectures that a repository always lists, so that a host of one without packages finds an empty list. */
const ALWAYS = ['amd64', 'arm64'];

/** Works out the index of a repository. */
export const aptIndex = (content: RepositoryContent): RepositoryIndex => {
  const stanzas = content.packages
    .map(({ subject, digest, size }) => {
      const plan = planPackage(content.format, subject);
      const source = 'source' in subject ? subject.source.name : '';
      const control = plan.control['control'] ?? '';
      return {
        key: `${plan.name} ${plan.version}`,
        arch: plan.arch,
        text: `${control}Filename: ${poolPath(source, plan.file)}\nSize: ${size}\nSHA256: ${hexOf(digest)}\n`,
      };
    })
    .toSorted((one, other) => (one.key < other.key ? -1 : 1));
  const arches = [
    ...new Set([...ALWAYS, ...stanzas.map(({ arch }) => arch).filter((arch) => arch !== 'all')]),
  ].sort();
  const lists = new Map<string, string>();
  for (const arch of arches)
    lists.set(
      `main/binary-${arch}/Packages`,
      stanzas
        .filter((stanza) => stanza.arch === arch || stanza.arch === 'all')
        .map(({ text }) => `${text}\n`)
        .join(''),
    );
  const sums = [...lists].map(
    ([path, text]) => ` ${hexOf(digestOf(text))} ${Buffer.byteLength(text)} ${path}\n`,
  );
  const suite = suiteName(content);
  const release = [
    'Origin: Kiln',
    'Label: Kiln',
    `Suite: ${suite}`,
    `Codename: ${suite}`,
    `Date: ${dateOf(content.madeAt)}`,
    `Valid-Until: ${dateOf(content.validUntil)}`,
    `Architectures: ${arches.join(' ')}`,
    'Components: main',
    'Description: kernel modules that Kiln built and signed',
    'Acquire-By-Hash: yes',
    'SHA256:',
  ];
  return {
    lists,
    top: {
      path: 'Release',
      text: `${release.join('\n')}\n${sums.join('')}`,
      signature: 'Release.gpg',
      inline: 'InRelease',
    },
  };
};

/** A time as Release files have it: `Mon, 30 Nov 2026 10:00:00 UTC`. */
const dateOf = (time: number): string => new Date(time * 1000).toUTCString().replace('GMT', 'UTC');
