import { BlockList, isIP } from 'node:net';
import { KilnError } from '../../services/core/errors.ts';

/** Settings of proxies: the configuration file's, and the environment's as curl reads it. */
export interface ProxySettings {
  /** `proxy` in the configuration file; overrides the environment's. */
  readonly configured: string | null;
  readonly http: string | null;
  readonly https: string | null;
  readonly all: string | null;
  /** Hosts that are reached without a proxy: names (with all names below them), addresses, subnets, or `*`. */
  readonly none: string | null;
}

/** An HTTP proxy. */
export interface Proxy {
  readonly host: string;
  readonly port: number;
  /** The value of `Proxy-Authorization`; never for a message. */
  readonly authorization: string | null;
}

/** A URL's host as sockets take it: an IPv6 address without its brackets. */
export const hostOf = (url: URL): string => url.hostname.replace(/^\[(.*)\]$/, '$1');

/** The proxy for a server, or `null` to go there directly. Throws `bad-request` if what is set is no address of an HTTP proxy. */
export const chooseProxy = (server: URL, settings: ProxySettings): Proxy | null => {
  const { configured, all, none } = settings;
  const fromEnvironment = server.protocol === 'https:' ? settings.https : settings.http;
  const text = [configured, fromEnvironment, all].find((each) => each !== null && each !== '');
  if (typeof text !== 'string' || isExempt(hostOf(server), none ?? '')) return null;
  return parseProxy(text);
};

const parseProxy = (text: string): Proxy => {
  const address = /^[a-z0-9+.-]+:\/\//i.test(text) ? text : `http://${text}`;
  const url = URL.canParse(address) ? new URL(address) : null;
  const credentials = url === null ? null : credentialsOf(url);
  if (url?.protocol !== 'http:' || url.hostname === '' || credentials === null) {
    // The message does not repeat the address: it may hold a password.
    throw new KilnError(
      'bad-request',
      'the proxy that is set is no address of an HTTP proxy; use http://HOST:PORT or http://USER:PASSWORD@HOST:PORT, %-encoded',
    );
  }
  const encoded = Buffer.from(credentials).toString('base64');
  return {
    host: hostOf(url),
    port: url.port === '' ? 80 : Number(url.port),
    authorization: credentials === '' ? null : `Basic ${encoded}`,
  };
};

/** `USER:PASSWORD`, '' without, or `null` if they are not properly encoded. */
const credentialsOf = ({ username, password }: URL): string | null => {
  if (username === '' && password === '') return '';
  try {
    return `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  } catch {
    return null;
  }
};

const isExempt = (host: string, none: string): boolean =>
  none
    .split(/[\s,]+/)
    .map((entry) => entry.toLowerCase().replace(/^\./, '').replace(/\.$/, ''))
    .some((entry) => entry !== '' && (entry === '*' || covers(entry, host.toLowerCase())));

const covers = (entry: string, host: string): boolean => {
  if (isIP(host) === 0) return host === entry || host.endsWith(`.${entry}`);
  const [network = '', bits] = entry.replace(/^\[(.*)\]$/, '$1').split('/');
  const family = isIP(network);
  if (family === 0 || family !== isIP(host)) return false;
  const length = bits === undefined ? (family === 4 ? 32 : 128) : Number(bits);
  if (!Number.isInteger(length) || length < 0 || length > (family === 4 ? 32 : 128)) return false;
  const kind = family === 4 ? 'ipv4' : 'ipv6';
  const list = new BlockList();
  list.addSubnet(network, length, kind);
  return list.check(host, kind);
};
