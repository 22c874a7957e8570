import { KilnError } from '../errors.ts';

/** A part of an XML text. Names are without their namespace's prefix. */
export type XmlEvent =
  /** Its attributes are worked out when they are asked for. */
  | { readonly kind: 'open'; readonly name: string; readonly attributes: () => Attributes }
  /** `text` is what stands in the element after the last one within it. */
  | { readonly kind: 'close'; readonly name: string; readonly text: string };
export type Attributes = ReadonlyMap<string, string>;

/** Takes an XML text apart, piece by piece. */
export interface XmlReader {
  /** The parts that this piece of the text completes. */
  write(piece: string): readonly XmlEvent[];
  /** Throws where the text is not at its end. */
  end(): void;
}

/** Of one tag, comment or text, in characters. */
const PART_LIMIT = 256 * 1024;
const DEPTH_LIMIT = 32;

const NAME = String.raw`[A-Za-z_][\w.:-]*`;
const VALUE = String.raw`\s*=\s*(?:"[^"<]*"|'[^'<]*')`;
const OPEN = new RegExp(`^<(${NAME})((?:\\s+${NAME}${VALUE})*)\\s*(/?)>$`);
const CLOSE = new RegExp(`^</(${NAME})\\s*>$`);
const ATTRIBUTE = new RegExp(`(${NAME})\\s*=\\s*(?:"([^"]*)"|'([^']*)')`, 'g');
const TAG = /<[^"'<>]*(?:(?:"[^"]*"|'[^']*')[^"'<>]*)*>/y;

/** What is passed over or read as text: how it begins and ends. */
const SPANS = [
  ['<!--', '-->'],
  ['<![CDATA[', ']]>'],
  ['<?', '?>'],
] as const;

const ENTITIES: Readonly<Record<string, string>> = {
  amp: '&',
  lt: '<',
  gt: '>',
  quot: '"',
  apos: "'",
};

/**
 * Reads XML as far as what machines write for each other needs it (source: XML 1.0): elements, attributes, text, CDATA, comments, the
 * five entities that are always there. A document type is refused, and so no entity can stand for much, or for a file; so is what is
 * not well formed, or has parts that are too long or too deep. `what` names the text in errors. Throws `KilnError('unverified')`.
 */
export const createXmlReader = (what: string): XmlReader => {
  const open: string[] = [];
  let held = '';
  let text = '';
  let hasRoot = false;
  const refuse = (why: string): never => {
    throw new KilnError('unverified', `${what} ${why}; it is not what a distribution publishes`);
  };

  const decode = (raw: string): string => {
    if (!raw.includes('&')) return raw;
    return raw.replaceAll(
      /&(?:#x([0-9A-Fa-f]{1,6}|)|#([0-9]{1,7}|)|([A-Za-z]{1,8}|));|&/g,
      (_, hex?: string, decimal?: string, name?: string) => {
        const code = hex === undefined ? Number(decimal ?? NaN) : Number.parseInt(hex, 16);
        if (code > 0 && code <= 0x10ffff) return String.fromCodePoint(code);
        return ENTITIES[name ?? ''] ?? refuse('uses an entity that XML does not have by itself');
      },
    );
  };

  const addText = (raw: string): void => {
    if (open.length > 0) text += raw;
    else if (raw.trim() !== '') refuse('has text outside of its elements');
    if (text.length > PART_LIMIT) refuse('has a text of over 256 KiB');
  };

  /** Where the markup that begins at `start` ends; -1 where that is still to come. */
  const endOf = (start: number): number => {
    TAG.lastIndex = start;
    // Most of it is tags.
    if (/[\w/]/.test(held.charAt(start + 1))) return TAG.test(held) ? TAG.lastIndex : -1;
    for (const [first, last] of SPANS) {
      if (held.startsWith(first, start)) {
        const end = held.indexOf(last, start + first.length);
        return end < 0 ? -1 : end + last.length;
      }
      if (first.startsWith(held.slice(start))) return -1;
    }
    if (held.startsWith('<!', start)) return refuse('has a document type (DOCTYPE)');
    return refuse('has a malformed tag');
  };

  const attributesIn = (list: string): Attributes => {
    const attributes = new Map<string, string>();
    for (const [, name = '', double, single] of list.matchAll(ATTRIBUTE)) {
      if (attributes.has(name)) refuse(`has an attribute ${name.slice(0, 40)} twice in one tag`);
      attributes.set(name, decode(double ?? single ?? ''));
    }
    return attributes;
  };

  const openTag = (markup: string): readonly XmlEvent[] => {
    const [, full = '', list = '', empty] = OPEN.exec(markup) ?? refuse('has a malformed tag');
    if (open.length === 0 && hasRoot) refuse('has more than one outermost element');
    if (open.length === DEPTH_LIMIT) refuse(`has over ${DEPTH_LIMIT} elements within each other`);
    hasRoot = true;
    text = '';
    const name = local(full);
    const opened = { kind: 'open', name, attributes: () => attributesIn(list) } as const;
    if (empty === '/') return [opened, { kind: 'close', name, text }];
    open.push(full);
    return [opened];
  };

  const closeTag = (markup: string): readonly XmlEvent[] => {
    const full = CLOSE.exec(markup)?.[1];
    if (full === undefined || open.pop() !== full)
      return refuse('closes another element than is open');
    const event = { kind: 'close', name: local(full), text } as const;
    text = '';
    return [event];
  };

  const take = (markup: string): readonly XmlEvent[] => {
    if (markup.startsWith('<![')) addText(markup.slice(9, -3));
    if (markup.startsWith('<!') || markup.startsWith('<?')) return [];
    return markup.startsWith('</') ? closeTag(markup) : openTag(markup);
  };

  return {
    write(piece) {
      held += piece;
      const events: XmlEvent[] = [];
      let at = 0;
      for (;;) {
        const start = held.indexOf('<', at);
        const end = start < 0 ? -1 : endOf(start);
        if (end < 0) break;
        addText(decode(held.slice(at, start)));
        events.push(...take(held.slice(start, end)));
        at = end;
      }
      held = held.slice(at);
      if (held.length > PART_LIMIT) refuse('has a part of over 256 KiB');
      return events;
    },
    end() {
      if (open.length > 0 || !hasRoot || held.trim() !== '') refuse('is cut short');
    },
  };
};

const local = (name: string): string => name.slice(name.indexOf(':') + 1);
