import { describe, expect, it } from '@jest/globals';
import { chooseProxy, type ProxySettings } from '../../client/wire/proxy.ts';

const NOTHING: ProxySettings = { configured: null, http: null, https: null, all: null, none: null };
const choose = (server: string, settings: Partial<ProxySettings>) =>
  chooseProxy(new URL(server), { ...NOTHING, ...settings });

describe('the proxy for a service', () => {
  it('is the configured one, else the one for its scheme, else the one for all, else none', () => {
    const all = {
      configured: 'http://own:1',
      http: 'http://plain:2',
      https: 'http://secure:3',
      all: 'http://any:4',
    };
    expect(choose('https://kiln.test', all)).toMatchObject({ host: 'own', port: 1 });
    expect(choose('https://kiln.test', { ...all, configured: null })?.host).toBe('secure');
    expect(choose('http://kiln.test', { ...all, configured: null })?.host).toBe('plain');
    expect(choose('http://kiln.test', { all: 'any:4' })).toMatchObject({ host: 'any', port: 4 });
    expect(choose('http://kiln.test', { https: 'http://secure:3', http: '' })).toBeNull();
  });

  it.each([
    ['kiln.test', 'kiln.test', true],
    ['kiln.test', 'KILN.test', true],
    ['a.kiln.test', '.kiln.test', true],
    ['a.kiln.test', 'other, kiln.test', true],
    ['akiln.test', 'kiln.test', false],
    ['kiln.test', '*', true],
    ['kiln.test', 'a.kiln.test', false],
    ['10.1.2.3', '10.1.2.3', true],
    ['10.1.2.3', '10.0.0.0/8', true],
    ['10.1.2.3', '10.2.0.0/16', false],
    ['10.1.2.3', '10.0.0.0/99', false],
    ['10.1.2.3', '3', false],
    ['[::1]', '::1', true],
    ['[fd00::1]', 'fd00::/8', true],
    ['[fd00::1]', '10.0.0.0/8', false],
    ['kiln.test', '', false],
  ])('%s with no_proxy=%s: reached without one: %s', (host, none, isDirect) => {
    const proxy = choose(`http://${host}:8070`, { configured: 'http://proxy:3128', none });
    expect(proxy === null).toBe(isDirect);
  });

  it('takes its credentials from its address, decoded', () => {
    const proxy = choose('http://kiln.test', { configured: 'http://us%40er:p%3Ass@proxy:3128' });
    expect(proxy).toMatchObject({ host: 'proxy', port: 3128 });
    const [kind, text = ''] = proxy?.authorization?.split(' ') ?? [];
    expect([kind, Buffer.from(text, 'base64').toString()]).toEqual(['Basic', 'us@er:p:ss']);
    expect(choose('http://kiln.test', { configured: 'http://[fd00::1]:1' })).toEqual({
      host: 'fd00::1',
      port: 1,
      authorization: null,
    });
  });

  it.each([
    'socks5://user:secret@proxy:1',
    'https://user:secret@proxy',
    'http://%zz:secret@proxy',
    'http://',
  ])('is refused as %s, whose password is not repeated', (configured) => {
    const refused = (): unknown => choose('http://kiln.test', { configured });
    expect(refused).toThrow(/no address of an HTTP proxy/);
    expect(refused).not.toThrow(/secret/);
  });
});
