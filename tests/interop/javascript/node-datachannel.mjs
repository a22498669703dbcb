// One end of a WebRTC data channel, by node-datachannel (libdatachannel and libjuice).
//
//   node-datachannel.mjs offer  TURN-URL USER PASSWORD COUNT    offers, by relayed candidates only; sends COUNT
//                                                    messages and wants each one back
//   node-datachannel.mjs answer                                 answers, by host candidates; echoes
//
// Descriptions go in and out as lines of JSON on standard input and output. The offering end prints
// {"echoed": COUNT} at last, and ends with 0 if that is all.
import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';

const require = createRequire(new URL('../installed/javascript/', import.meta.url));
const { PeerConnection } = require('node-datachannel');

const LIMIT_MS = 60_000;
const [role, url, user, password, count] = process.argv.slice(2);

function fail(why) {
  console.error(why);
  process.exit(1);
}

function printDescriptionWhenGathered(connection) {
  connection.onGatheringStateChange((state) => {
    if (state === 'complete') console.log(JSON.stringify(connection.localDescription()));
  });
}

function onRemoteDescription(connection) {
  createInterface({ input: process.stdin }).once('line', (line) => {
    const { sdp, type } = JSON.parse(line);
    connection.setRemoteDescription(sdp, type);
  });
}

function offer() {
  setTimeout(() => fail(`not done within ${LIMIT_MS} ms`), LIMIT_MS);
  const [, host, port] = url.match(/^turn:(.*):(\d+)$/);
  const server = { hostname: host, port: Number(port), username: user, password, relayType: 'TurnUdp' };
  const connection = new PeerConnection('offer', {
    iceServers: [server],
    iceTransportPolicy: 'relay',
  });
  printDescriptionWhenGathered(connection);
  onRemoteDescription(connection);

  const channel = connection.createDataChannel('echo');
  const message = (number) => {
    const bytes = Buffer.alloc(4 + (number % 900));
    bytes.writeUInt32BE(number);
    return bytes;
  };
  let echoed = 0;
  channel.onOpen(() => channel.sendMessageBinary(message(0)));
  channel.onMessage((bytes) => {
    if (!message(echoed).equals(Buffer.from(bytes))) fail(`message ${echoed} came back changed`);
    echoed += 1;
    if (echoed < Number(count)) {
      channel.sendMessageBinary(message(echoed));
      return;
    }
    console.log(JSON.stringify({ echoed }));
    connection.close();
    process.exit(0);
  });
}

function answer() {
  const connection = new PeerConnection('answer', { iceServers: [] });
  printDescriptionWhenGathered(connection);
  onRemoteDescription(connection);
  connection.onDataChannel((channel) => {
    channel.onMessage((bytes) => channel.sendMessageBinary(Buffer.from(bytes)));
    // Keeps the channel from being collected.
    connection.echo = channel;
  });
  setInterval(() => connection.state(), LIMIT_MS);
}

if (role === 'offer') offer();
else answer();
