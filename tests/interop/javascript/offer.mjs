// The offering end of a WebRTC data channel, by werift or by @roamhq/wrtc (Google's WebRTC for Node).
//
//   offer.mjs STACK offer TURN-URL USER PASSWORD COUNT     offers, by relayed candidates only; sends
//                                                          COUNT messages and wants each one back
//
// Descriptions go in and out as lines of JSON on standard input and output. {"echoed": COUNT} is
// printed at last.
import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';
import { offer } from './w3c.mjs';

const LIMIT_MS = 60_000;
const [stack, , url, user, password, count] = process.argv.slice(2);

function fail(why) {
  console.error(why);
  process.exit(1);
}

const require = createRequire(new URL('../installed/javascript/', import.meta.url));
const { RTCPeerConnection } = require(stack);
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

process.on('uncaughtException', fail);
setTimeout(() => fail(`not done within ${LIMIT_MS} ms`), LIMIT_MS);
try {
  await offer({
    RTCPeerConnection,
    url,
    user,
    password,
    count: Number(count),
    print: (value) => console.log(JSON.stringify(value)),
    read: async () => JSON.parse((await lines.next()).value),
  });
  process.exit(0);
} catch (error) {
  fail(error);
}
