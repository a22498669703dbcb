//! Send and Data indications: whatever a worker carries, the server would have carried in the same
//! way, byte for byte.

use std::net::SocketAddr;

use dataplane::Indication;
use turn::message::{Builder, Class, Message, Method, TransactionId};

pub(crate) fn run(bytes: &[u8]) {
    let Some(Indication { peer, data, dont_fragment, wrapped }) = Indication::of(bytes) else {
        // A worker may leave anything to the server, but for the plain ones.
        assert!(!is_plain(bytes), "left to the server: {bytes:02x?}");
        return;
    };
    let message = Message::parse(bytes).expect("what a worker reads is a message");
    assert_eq!((message.class(), message.method()), (Class::Indication, Method::SEND));
    assert_eq!(message.unknown_required().next(), None);
    assert!(!message.has_fingerprint() && !message.has_integrity());
    assert_eq!(message.xor_peer_address(), Ok(Some(peer)));
    assert_eq!(message.data(), Some(data));
    assert_eq!(message.dont_fragment(), Ok(dont_fragment));
    // and back
    let mut out = Vec::new();
    let mut builder =
        Builder::new(&mut out, Class::Indication, Method::DATA, message.transaction());
    builder.xor_peer_address(peer).data(data);
    let written = builder.finish().expect("it came in a datagram");
    assert_eq!(wrapped.as_deref(), Some(written), "what the worker writes is on the left");
}

/// Exactly what the server's own builder would write.
fn is_plain(bytes: &[u8]) -> bool {
    let Ok(message) = Message::parse(bytes) else { return false };
    let (Ok(Some(peer)), Some(data)) = (message.xor_peer_address(), message.data()) else {
        return false;
    };
    let mapped = matches!(peer, SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some());
    if mapped || peer.port() == 0 {
        return false;
    }
    send(message.transaction(), peer, data, false) == bytes
        || send(message.transaction(), peer, data, true) == bytes
}

fn send(id: TransactionId, peer: SocketAddr, data: &[u8], whole: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut builder = Builder::new(&mut out, Class::Indication, Method::SEND, id);
    builder.xor_peer_address(peer).data(data);
    if whole {
        builder.dont_fragment();
    }
    builder.finish().expect("short").to_vec()
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for peer in ["203.0.113.9:6000", "[2001:db8::9]:6000", "[::ffff:203.0.113.9]:6000"] {
        let peer = crate::lab::address(peer);
        for size in [0, 1, 4, 161] {
            for whole in [false, true] {
                seeds.push(send(TransactionId([7; 12]), peer, &vec![0xc5; size], whole));
            }
        }
    }
    seeds
}
