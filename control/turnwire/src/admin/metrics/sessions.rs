//! TCP, TLS and DTLS clients, and TCP connections to peers.

use dataplane::Transport;
use dataplane::session::{Ending, SessionSnapshot};

use super::{Page, Snapshot};

/// Transports that have connections.
const CONNECTED: [Transport; 3] = [Transport::Tcp, Transport::Tls, Transport::Dtls];

/// The clients of session threads.
pub(super) fn sessions(page: &mut Page, snapshot: &Snapshot) {
    let sessions = &snapshot.plane.sessions;
    let sum = |of: fn(&SessionSnapshot) -> u64| -> u64 { sessions.iter().map(of).sum() };
    let by = |of: fn(&SessionSnapshot) -> &[u64; 4], transport: Transport| -> u64 {
        sessions.iter().map(|one| of(one)[transport as usize]).sum()
    };
    page.gauge("turnwire_session_threads", "Threads that serve TCP, TLS and DTLS clients.")
        .value(sessions.len());
    let help = "TCP and TLS connections, and DTLS associations, now, by transport.";
    let mut family = page.gauge("turnwire_connections", help);
    for transport in CONNECTED {
        family.sample(&[("transport", transport.name())], by(|one| &one.open, transport));
    }
    let help = "Connections and associations begun, by transport.";
    let mut family = page.counter("turnwire_connections_begun_total", help);
    for transport in CONNECTED {
        family.sample(&[("transport", transport.name())], by(|one| &one.begun, transport));
    }
    let help = "TLS and DTLS handshakes that ended, by transport and result.";
    let mut family = page.counter("turnwire_handshakes_total", help);
    for transport in [Transport::Tls, Transport::Dtls] {
        let name = transport.name();
        let ok = by(|one| &one.handshakes_ok, transport);
        family.sample(&[("transport", name), ("result", "ok")], ok);
        let failed = by(|one| &one.handshakes_failed, transport);
        family.sample(&[("transport", name), ("result", "failed")], failed);
    }
    page.gauge("turnwire_dtls_half_open", "DTLS handshakes under way now.")
        .value(sum(|one| one.handshaking));
    let help = "Connections and associations that ended or were refused, by reason.";
    let mut family = page.counter("turnwire_connections_ended_total", help);
    for &ending in Ending::ALL {
        let count: u64 = sessions.iter().map(|one| one.ended(ending)).sum();
        family.sample(&[("reason", ending.name())], count);
    }
    let help = "Messages of TCP, TLS and DTLS clients, by direction: STUN and ChannelData.";
    let mut family = page.counter("turnwire_session_messages_total", help);
    family.sample(&[("direction", "in")], sum(|one| one.frames_in));
    family.sample(&[("direction", "out")], sum(|one| one.frames_out));
    let help = "Bytes of these connections, with what TLS adds.";
    let mut family = page.counter("turnwire_session_bytes_total", help);
    family.sample(&[("direction", "in")], sum(|one| one.bytes_in));
    family.sample(&[("direction", "out")], sum(|one| one.bytes_out));
    let help = "Messages dropped because their client took too little of what waits for it.";
    page.counter("turnwire_session_queue_dropped_total", help).value(sum(|one| one.queue_drops));
    let help = "Times that no connection was accepted for want of descriptors.";
    page.counter("turnwire_accept_pauses_total", help).value(sum(|one| one.accept_pauses));
    page.gauge("turnwire_session_routes", "Channels of these clients now.")
        .value(sum(|one| one.routes));
}

/// TCP relaying (RFC 6062).
pub(super) fn peers(page: &mut Page, snapshot: &Snapshot) {
    let counts = &snapshot.peers;
    let help = "TCP connections with peers (RFC 6062), by what became of them.";
    let mut family = page.counter("turnwire_tcp_peers_total", help);
    for (result, count) in [
        ("connected", counts.connected),
        ("failed", counts.failed),
        ("accepted", counts.accepted),
        ("refused", counts.refused),
        ("spliced", counts.spliced),
    ] {
        family.sample(&[("result", result)], count);
    }
    let help = "Relayed addresses that listen by TCP, and connections that wait to be bound, now.";
    page.gauge("turnwire_tcp_peer_sockets", help).value(counts.open);
    let sessions = &snapshot.plane.sessions;
    page.gauge("turnwire_tcp_splices", "Clients' connections joined with peers' now.")
        .value(sessions.iter().map(|one| one.splices).sum::<u64>());
    let help = "Bytes that joined connections carried, by direction.";
    let mut family = page.counter("turnwire_tcp_relayed_bytes_total", help);
    for (at, direction) in ["to_peer", "to_client"].into_iter().enumerate() {
        let bytes: u64 = sessions.iter().map(|one| one.splice_bytes[at]).sum();
        family.sample(&[("direction", direction)], bytes);
    }
}
