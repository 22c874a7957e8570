const BLOCK =
  /^-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(?:[^\r\n]+: [^\r\n]*\r?\n)*\r?\n([A-Za-z0-9+/=\r\n]+?)(?:\r?\n=[A-Za-z0-9+/]{4})?\r?\n-----END PGP PUBLIC KEY BLOCK-----/gm;

/** The bytes of the public keys in a text (source: RFC 4880, 6.2), one after another; empty where there is none. */
export const dearmorKeys = (text: string): Buffer =>
  Buffer.concat([...text.matchAll(BLOCK)].map(([, body = '']) => Buffer.from(body, 'base64')));
