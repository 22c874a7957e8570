import { readFileSync } from 'node:fs';
import { X509Certificate } from 'node:crypto';
import { request } from 'node:http';
import { connect as connectPlain, isIP, type Socket } from 'node:net';
import {
  connect as connectSecure,
  createSecureContext,
  getCACertificates,
  rootCertificates,
  type SecureContext,
} from 'node:tls';
import { KilnError } from '../../services/core/errors.ts';
import { CallFailed, connectionFailed, timedOut } from './fault.ts';
import { hostOf, type Proxy } from './proxy.ts';

/** The way to a service: its address, a proxy, and whom TLS trusts. */
export interface Way {
  readonly server: URL;
  readonly proxy: Proxy | null;
  /** Whom https trusts; `null` for plain http. */
  readonly trusted: SecureContext | null;
}

/** Milliseconds that a connection may take to be made, from the look-up of the name to the end of TLS's handshake. */
const CONNECTING = 10_000;

/** Whom to trust for https: the system's CAs, or those that come with the client where the system has none, and those in a PEM file. */
export const trustedBy = (caFile: string | null): SecureContext => {
  const system = getCACertificates('system');
  const own = caFile === null ? [] : readCertificates(caFile);
  return createSecureContext({
    ca: [...(system.length === 0 ? rootCertificates : system), ...own],
  });
};

const PEM = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

const readCertificates = (file: string): readonly string[] => {
  try {
    const found = readFileSync(file, 'latin1').match(PEM) ?? [];
    const certificates = found.map((pem) => new X509Certificate(pem).toString());
    if (certificates.length > 0) return certificates;
  } catch (cause) {
    throw new KilnError('bad-request', `the CA file ${file} cannot be read; give one in PEM`, {
      cause,
    });
  }
  throw new KilnError('bad-request', `the CA file ${file} holds no certificate; give one in PEM`);
};

/** Opens a connection to a service on which HTTP may be spoken, TLS and a proxy's tunnel included. Throws `CallFailed`. */
export const openConnection = async ({ server, proxy, trusted }: Way): Promise<Socket> => {
  const deadline = performance.now() + CONNECTING;
  const host = hostOf(server);
  const port = server.port === '' ? (trusted === null ? 80 : 443) : Number(server.port);
  if (trusted === null) return openPlain(proxy ?? { host, port }, deadline, proxy, server);
  const base =
    proxy === null
      ? await openPlain({ host, port }, deadline, null, server)
      : await openTunnel(proxy, `${server.hostname}:${port}`, deadline);
  const secure = connectSecure({
    socket: base,
    host,
    secureContext: trusted,
    // Explicit, as the variable NODE_TLS_REJECT_UNAUTHORIZED could otherwise turn it off.
    rejectUnauthorized: true,
    ALPNProtocols: ['http/1.1'],
    ...(isIP(host) === 0 ? { servername: host } : {}),
  });
  try {
    await opened(secure, 'secureConnect', deadline);
    return secure;
  } catch (cause) {
    throw connectionFailed(cause, server.origin, false);
  }
};

const openPlain = async (
  to: { readonly host: string; readonly port: number },
  deadline: number,
  proxy: Proxy | null,
  server: URL,
): Promise<Socket> => {
  const socket = connectPlain({ host: to.host, port: to.port });
  try {
    await opened(socket, 'connect', deadline);
    return socket;
  } catch (cause) {
    throw connectionFailed(cause, proxy === null ? server.origin : placeOf(proxy), false);
  }
};

const placeOf = ({ host, port }: Proxy): string => `the proxy ${host}:${port}`;

const opened = (
  socket: Socket,
  event: 'connect' | 'secureConnect',
  deadline: number,
): Promise<void> =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(() => socket.destroy(timedOut()), deadline - performance.now());
    const settle = (act: () => void) => (): void => {
      clearTimeout(timer);
      act();
    };
    socket.once(event, settle(resolve));
    socket.on('error', (cause) => settle(() => reject(cause))());
    socket.once(
      'close',
      settle(() => reject(new Error('closed while it was made'))),
    );
  });

/** A tunnel to `target` (HOST:PORT) by CONNECT. */
const openTunnel = (proxy: Proxy, target: string, deadline: number): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const outgoing = request({
      host: proxy.host,
      port: proxy.port,
      method: 'CONNECT',
      path: target,
      headers: {
        Host: target,
        ...(proxy.authorization === null ? {} : { 'Proxy-Authorization': proxy.authorization }),
      },
      agent: false,
    });
    const timer = setTimeout(() => outgoing.destroy(timedOut()), deadline - performance.now());
    outgoing.once('connect', (response, socket, head) => {
      clearTimeout(timer);
      const status = response.statusCode ?? 0;
      if (status >= 200 && status < 300 && head.length === 0) {
        resolve(socket);
        return;
      }
      socket.destroy();
      reject(proxyRefused(proxy, status));
    });
    outgoing.on('error', (cause) => {
      clearTimeout(timer);
      reject(connectionFailed(cause, placeOf(proxy), false));
    });
    outgoing.end();
  });

/** The failure that a proxy's own refusal means, by its status. */
export const proxyRefused = (proxy: Proxy, status: number): CallFailed => {
  const advice =
    status === 407
      ? 'it wants credentials: proxy = http://USER:PASSWORD@HOST:PORT'
      : 'ask who runs it to let this host through, or name the service in no_proxy';
  return new CallFailed(
    'unreachable',
    `${placeOf(proxy)} refused the way to the service (status ${status}); ${advice}`,
    {
      reason: `proxy refused (status ${status})`,
      mayPass: status === 429 || (status >= 502 && status <= 504),
      mayBeDone: false,
      wait: null,
    },
  );
};
