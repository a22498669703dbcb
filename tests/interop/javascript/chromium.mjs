// The offering end of a WebRTC data channel, in headless Chromium.
//
//   chromium.mjs offer TURN-URL USER PASSWORD COUNT     offers, by relayed candidates only; sends COUNT
//                                                       messages and wants each one back
//
// The page comes from a server on this host's loopback, which also carries the lines of JSON between
// the page and standard input and output. $SPKI, if set, is the hash of the public key of a
// certificate that the browser is to accept though no authority it knows has signed it.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const LIMIT_MS = 60_000;
const [, url, user, password, count] = process.argv.slice(2);
const config = JSON.stringify({ url, user, password, count: Number(count) });

const PAGE = `<!doctype html><title>echo</title><script type="module">
  import { offer } from './w3c.mjs';
  const print = (value) => fetch('/print', { method: 'POST', body: JSON.stringify(value) });
  const read = async () => (await fetch('/read')).json();
  try {
    await offer({ ...${config}, RTCPeerConnection, print, read });
  } catch (error) {
    await fetch('/fail', { method: 'POST', body: String(error) });
  }
</script>`;

const profile = mkdtempSync(join(tmpdir(), 'turnwire-chromium-'));
let browser;

function end(code, why) {
  if (why) console.error(why);
  browser?.kill('SIGKILL');
  try {
    // Its children may still write there for a moment.
    rmSync(profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 });
  } catch (error) {
    console.error(error);
  }
  process.exit(code);
}

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const server = createServer(async (request, response) => {
  let body = '';
  for await (const chunk of request) body += chunk;
  const answer = (type, text) => response.writeHead(200, { 'Content-Type': type }).end(text);
  switch (request.url) {
    case '/':
      return answer('text/html', PAGE);
    case '/w3c.mjs':
      return answer('text/javascript', readFileSync(new URL('w3c.mjs', import.meta.url)));
    case '/read':
      return answer('application/json', (await lines.next()).value);
    case '/print':
      console.log(body);
      answer('text/plain', '');
      if (body.includes('echoed')) end(0);
      return undefined;
    case '/fail':
      return end(1, body);
    default:
      return response.writeHead(404).end();
  }
});

setTimeout(() => end(1, `not done within ${LIMIT_MS} ms`), LIMIT_MS);
process.on('SIGTERM', () => end(1, 'told to end'));
process.stdin.on('end', () => end(1, 'nobody listens any more'));
server.listen(0, '127.0.0.1', () => {
  const flags = [
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
    '--disable-dev-shm-usage', '--disable-extensions', '--enable-logging=stderr',
    `--user-data-dir=${profile}`,
  ];
  if (process.env.SPKI) flags.push(`--ignore-certificate-errors-spki-list=${process.env.SPKI}`);
  flags.push(`http://127.0.0.1:${server.address().port}/`);
  browser = spawn('chromium', flags, { stdio: ['ignore', 'ignore', 'inherit'] });
  browser.on('error', (error) => end(1, error));
  browser.on('exit', (code) => end(1, `the browser ended (${code})`));
});
