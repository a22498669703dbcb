// The offering end of a WebRTC data channel, for every stack with the API of the W3C: werift, wrtc, and
// browsers, which load this file as it is.
//
// `print` takes the description, and at last {"echoed": COUNT}; `read` gives the answer.

const GATHERED_POLL_MS = 20;

// Whether there is something to offer. To wait for the end of gathering can take ten seconds: a
// network without a way to the relay has to time out first.
function gathered(connection) {
  const { iceGatheringState, localDescription } = connection;
  return iceGatheringState === 'complete' || localDescription.sdp.includes('typ relay');
}

function message(number) {
  const bytes = new Uint8Array(4 + (number % 900));
  new DataView(bytes.buffer).setUint32(0, number);
  return bytes;
}

function equal(a, b) {
  return a.length === b.length && a.every((byte, at) => byte === b[at]);
}

export async function offer({ RTCPeerConnection, url, user, password, count, print, read }) {
  const connection = new RTCPeerConnection({
    iceServers: [{ urls: url, username: user, credential: password }],
    iceTransportPolicy: 'relay',
  });
  const channel = connection.createDataChannel('echo');
  channel.binaryType = 'arraybuffer';
  const opened = new Promise((resolve) => (channel.onopen = resolve));
  await connection.setLocalDescription(await connection.createOffer());
  while (!gathered(connection)) {
    await new Promise((resolve) => setTimeout(resolve, GATHERED_POLL_MS));
  }
  const { type, sdp } = connection.localDescription;
  await print({ type, sdp });
  await connection.setRemoteDescription(await read());
  await opened;
  for (let number = 0; number < count; number += 1) {
    const sent = message(number);
    const came = new Promise((resolve) => (channel.onmessage = (event) => resolve(event.data)));
    channel.send(sent);
    if (!equal(new Uint8Array(await came), sent)) throw new Error(`message ${number} was changed`);
  }
  await print({ echoed: count });
  await connection.close();
}
