// Makes @roamhq/wrtc trust the lab's certificate authority: the authorities that Google's WebRTC trusts
// are compiled into it, and nothing in its API adds one. This writes the lab's over one of them.
//
//   trust.mjs CA.pem
//
//   ... 30 82 LL LL 30 82 LL LL a0 03 02 01 02 ...     a DER certificate, version 3
//       '--- replaced by a shorter one; what is left behind it is not read ---'
import { readFileSync, writeFileSync } from 'node:fs';

const addon = new URL(
  '../installed/javascript/node_modules/@roamhq/wrtc-linux-x64/wrtc.node',
  import.meta.url,
);
const pem = readFileSync(process.argv[2], 'latin1');
const authority = Buffer.from(pem.replace(/-----[^-]+-----|\s/g, ''), 'base64');

/** Where a certificate of at least `size` bytes lies. */
function certificate(bytes, size) {
  const version3 = Buffer.from('a003020102', 'hex');
  for (let at = bytes.indexOf(version3); at >= 0; at = bytes.indexOf(version3, at + 1)) {
    const start = at - 8;
    const [outer, inner] = [bytes.readUInt16BE(start), bytes.readUInt16BE(start + 4)];
    const length = bytes.readUInt16BE(start + 2);
    if (outer === 0x3082 && inner === 0x3082 && length + 4 >= size && length < 3000) return start;
  }
  throw new Error(`no certificate of ${size} bytes in ${addon}`);
}

const bytes = readFileSync(addon);
if (!bytes.includes(authority)) {
  authority.copy(bytes, certificate(bytes, authority.length));
  writeFileSync(addon, bytes);
}
