import { describe, expect, it } from '@jest/globals';
import { createXmlReader } from '../../services/core/format/xml.ts';

const SAMPLE = `<?xml version="1.0" encoding="UTF-8"?>
<!-- > "made" ' by hand -->
<m:metadata xmlns:m="urn:x" packages='1'>
  <name>a &amp; b &#60;&#x3e;<!-- c -->d<![CDATA[<&>]]></name>
  <location xml:base="x" href="a>b/c&quot;"/>
  <rpm:empty></rpm:empty >
</m:metadata>
`;

/** Events as lines. */
const read = (text: string, size = text.length): readonly string[] => {
  const reader = createXmlReader('it');
  const lines: string[] = [];
  for (let at = 0; at < text.length; at += size)
    for (const event of reader.write(text.slice(at, at + size)))
      lines.push(
        event.kind === 'open'
          ? `<${event.name} ${[...event.attributes()].map((pair) => pair.join('=')).join(' ')}`
          : `>${event.name} ${event.text.trim()}`,
      );
  reader.end();
  return lines;
};

describe('an XML text', () => {
  it('is read the same, however it is cut into pieces', () => {
    const whole = [
      '<metadata xmlns:m=urn:x packages=1',
      '<name ',
      '>name a & b <>d<&>',
      '<location xml:base=x href=a>b/c"',
      '>location ',
      '<empty ',
      '>empty ',
      '>metadata ',
    ];
    for (let size = 1; size <= SAMPLE.length; size += 1) expect(read(SAMPLE, size)).toEqual(whole);
  });

  it.each([
    ['a document type', '<!DOCTYPE a [<!ENTITY b "bbbb">]><a>&b;</a>', /document type/],
    ['a document type further on', '<a><!ELEMENT b ANY></a>', /document type/],
    ['an entity of its own', '<a>&lol;</a>', /entity/],
    ['an entity in a value', '<a b="&file;"/>', /entity/],
    ['an ampersand', '<a>b & c</a>', /entity/],
    ['no character', '<a>&#0;</a>', /entity/],
    ['a character beyond all', '<a>&#x110000;</a>', /entity/],
    ['an element that another closes', '<a><b></a></b>', /closes another/],
    ['a tag that is none', '<a b=c/>', /malformed tag/],
    ['a tag within a tag', '<a <b>>', /cut short/],
    ['an attribute twice', '<a b="1" b="2"/>', /twice/],
    ['two outermost elements', '<a/><b/>', /more than one outermost/],
    ['text outside', '<a/>b', /cut short/],
    ['text before', 'b<a/>', /text outside/],
    ['nothing', ' ', /cut short/],
    ['no end', '<a><b></b>', /cut short/],
    ['half a tag at the end', '<a></a', /cut short/],
    ['depth', '<a>'.repeat(40), /within each other/],
    ['a long text', `<a>${'b'.repeat(300_000)}`, /over 256 KiB/],
    ['a long text in parts', `<a>${'b<!---->'.repeat(300_000)}`, /over 256 KiB/],
    ['a long tag', `<a ${'b'.repeat(300_000)}`, /over 256 KiB/],
    ['a long value', `<a b="${'>'.repeat(300_000)}`, /over 256 KiB/],
    ['a long comment', `<a><!-- ${'-'.repeat(300_000)}`, /over 256 KiB/],
  ])('with %s is refused', (_, text, words) => {
    expect(() => read(text, 4096)).toThrow(words);
  });
});
