import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { unpackPackages } from './debian.ts';
import { freePort } from './faulty-network.ts';
import { freshDirectory } from './make-source.ts';
import { until } from './until.ts';

/** Debian's nginx, running. */
export interface Nginx {
  readonly url: string;
  close(): Promise<void>;
}

/** It as a reverse proxy with the settings it has by itself and these lines in its server block. */
export const startNginx = (...lines: readonly string[]): Promise<Nginx> => start([], lines);

/** It in front of several servers that are alike, each asked in turn. */
export const startBalancer = (servers: readonly string[]): Promise<Nginx> =>
  start(
    [`upstream servers { ${servers.map((each) => `server ${each};`).join(' ')} }`],
    [
      'client_max_body_size 0;',
      'proxy_buffering off;',
      'proxy_request_buffering off;',
      'proxy_http_version 1.1;',
      'proxy_set_header Connection "";',
      'location / { proxy_pass http://servers; }',
    ],
  );

const start = async (http: readonly string[], lines: readonly string[]): Promise<Nginx> => {
  const program = join(await unpackPackages('nginx', ['nginx']), 'usr/sbin/nginx');
  const place = await freshDirectory('nginx');
  const port = await freePort();
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (kind) => `${kind}_temp_path ${join(place, kind)};`,
  );
  const config = `
daemon off;
user root;
worker_processes 1;
pid ${join(place, 'pid')};
error_log ${join(place, 'error.log')};
events {}
http {
  access_log off;
  ${[...temporary, ...http].join('\n  ')}
  server {
    listen 127.0.0.1:${port};
    ${lines.join('\n    ')}
  }
}
`;
  await writeFile(join(place, 'nginx.conf'), config);
  const args = ['-p', place, '-e', join(place, 'error.log'), '-c', join(place, 'nginx.conf')];
  const child = spawn(program, args, { stdio: 'inherit' });
  const ended = once(child, 'exit');
  const url = `http://127.0.0.1:${port}`;
  await until('nginx answers', () =>
    fetch(url).then(
      () => true,
      () => {
        if (child.exitCode !== null) throw new Error(`nginx ended with ${child.exitCode}`);
        return false;
      },
    ),
  );
  return {
    url,
    async close() {
      child.kill('SIGTERM');
      await ended;
    },
  };
};
