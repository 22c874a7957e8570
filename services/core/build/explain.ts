/** Parts of a build's inputs (core/build/fingerprint.ts) in which two builds may differ. */
export type InputPart =
  | 'source'
  | 'headers'
  | 'toolchain'
  | 'waivers'
  | 'dependencies'
  | 'settings'
  | 'files'
  | 'recipe'
  | 'environment'
  | 'build script';

/** One difference, in words. */
export interface Difference {
  readonly part: InputPart;
  readonly words: string;
}

type Inputs = Readonly<Record<string, unknown>>;

/**
 * The differences between the inputs of two builds, in words; `before` is the older one's. None means the same fingerprint. Both inputs
 * come from outside: a malformed part counts as absent.
 */
export const explainInputs = (before: Inputs, after: Inputs): readonly Difference[] => [
  ...explainSource(before, after),
  ...explainKernel(before, after),
  ...explainValue('toolchain', 'the toolchain', before, after, 'toolchain'),
  ...explainValue('waivers', 'what was waived of the compiler contract', before, after, 'waived'),
  ...explainDependencies(before, after),
  ...explainMembers('settings', 'the setting', before, after, 'settings'),
  ...explainMembers('files', 'the file for hosts', before, after, 'files'),
  ...explainValue('recipe', 'how the steps are worked out', before, after, 'recipe'),
  ...explainMembers('environment', 'the variable', before, after, 'environment'),
  ...explainValue('build script', 'Kiln’s build script', before, after, 'script'),
];

/** Whether a difference makes an installed module stale: its source, its kernel or an admin's decision has changed. */
export const isStaleness = ({ part }: Difference): boolean =>
  part !== 'recipe' && part !== 'environment' && part !== 'build script' && part !== 'waivers';

const member = (value: unknown, key: string): unknown =>
  typeof value === 'object' && value !== null && Object.hasOwn(value, key)
    ? (value as Readonly<Record<string, unknown>>)[key]
    : undefined;

const shown = (value: unknown): string => {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? 'nothing');
  return text.startsWith('sha256:') ? text.slice(0, 'sha256:'.length + 12) : text.slice(0, 200);
};

const isEqual = (one: unknown, other: unknown): boolean =>
  JSON.stringify(one) === JSON.stringify(other);

const explainSource = (before: Inputs, after: Inputs): Difference[] => {
  const of = (inputs: Inputs, key: string): unknown => member(inputs['source'], key);
  if (isEqual(of(before, 'digest'), of(after, 'digest'))) return [];
  const names = [before, after].map(
    (inputs) => `${shown(of(inputs, 'name'))}/${shown(of(inputs, 'version'))}`,
  );
  const words =
    names[0] === names[1]
      ? `the source ${names[0] ?? ''} has other bytes: ${shown(of(before, 'tree'))}, now ${shown(of(after, 'tree'))}`
      : `the source: ${names[0] ?? ''}, now ${names[1] ?? ''}`;
  return [{ part: 'source', words }];
};

const KERNEL_PARTS = [
  ['release', 'the kernel'],
  ['compiler', 'the compiler that built the kernel'],
  ['config', 'the kernel’s configuration'],
  ['symvers', 'the symbols that the kernel exports (Module.symvers)'],
] as const;

const explainKernel = (before: Inputs, after: Inputs): Difference[] => {
  const of = (inputs: Inputs, key: string): unknown => member(inputs['kernel'], key);
  if (isEqual(of(before, 'tree'), of(after, 'tree'))) return [];
  const parts = KERNEL_PARTS.filter(([key]) => !isEqual(of(before, key), of(after, key))).map(
    ([key, what]) => `${what}: ${shown(of(before, key))}, now ${shown(of(after, key))}`,
  );
  const words =
    parts.length === 0
      ? `the headers package: other files, the same configuration and symbols (${shown(of(before, 'tree'))}, now ${shown(of(after, 'tree'))})`
      : `the headers package: ${parts.join('; ')}`;
  return [{ part: 'headers', words }];
};

const explainValue = (
  part: InputPart,
  what: string,
  before: Inputs,
  after: Inputs,
  key: string,
): Difference[] =>
  isEqual(before[key], after[key])
    ? []
    : [{ part, words: `${what}: ${shown(before[key])}, now ${shown(after[key])}` }];

const explainDependencies = (before: Inputs, after: Inputs): Difference[] => {
  const of = (inputs: Inputs): ReadonlyMap<string, unknown> =>
    new Map(
      (Array.isArray(inputs['dependencies']) ? inputs['dependencies'] : []).map((each) => [
        shown(member(each, 'name')),
        each,
      ]),
    );
  const [old, now] = [of(before), of(after)];
  return [...new Set([...old.keys(), ...now.keys()])].flatMap((name): Difference[] => {
    const [one, other] = [old.get(name), now.get(name)];
    if (isEqual(one, other)) return [];
    const version = (value: unknown): string =>
      value === undefined
        ? 'none'
        : `${shown(member(value, 'version'))} ${shown(member(value, 'fingerprint'))}`;
    return [
      {
        part: 'dependencies',
        words: `its dependency ${name}: ${version(one)}, now ${version(other)}`,
      },
    ];
  });
};

const explainMembers = (
  part: InputPart,
  what: string,
  before: Inputs,
  after: Inputs,
  key: string,
): Difference[] => {
  const names = [before, after].flatMap((inputs) => Object.keys(inputs[key] ?? {}));
  return [...new Set(names)].sort().flatMap((name): Difference[] => {
    const [one, other] = [member(before[key], name), member(after[key], name)];
    if (isEqual(one, other)) return [];
    const value = (given: unknown): string => (given === undefined ? 'none' : shown(given));
    return [{ part, words: `${what} ${name}: ${value(one)}, now ${value(other)}` }];
  });
};
