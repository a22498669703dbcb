//! Events on their way from the workers' rings to the server.
//!
//! The rings lend their bytes only while they are being read, and what the server does with an
//! event writes to the data plane that owns them: a batch is copied out first, into one buffer
//! that is used again and again.

use std::net::SocketAddr;
use std::ops::Range;

use dataplane::Event;
use dataplane::batch::Marks;
use turn::{Client, Icmp, Input, Origin, Transport};

#[derive(Debug, Clone, Copy)]
enum From {
    Client { client: Client, origin: Origin },
    Gone { client: Client, origin: Origin },
    Peer { relay: SocketAddr, peer: SocketAddr },
    Unreachable { relay: SocketAddr, peer: SocketAddr, icmp: Icmp },
}

/// A batch of events.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    events: Vec<(From, Option<Marks>, Range<usize>)>,
}

impl Inbox {
    /// Forgets the batch, but keeps its memory.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.events.clear();
    }

    /// Adds an event.
    pub(super) fn push(&mut self, event: &Event<'_>) {
        let (from, bytes) = match *event {
            Event::Client { worker, transport, local, remote, bytes, .. } => {
                let client = Client { remote, local, transport: transport_of(transport) };
                (From::Client { client, origin: origin(worker) }, bytes)
            }
            Event::Gone { worker, transport, local, remote } => {
                let client = Client { remote, local, transport: transport_of(transport) };
                (From::Gone { client, origin: origin(worker) }, &[][..])
            }
            Event::Peer { relay, peer, bytes, .. } => (From::Peer { relay, peer }, bytes),
            Event::Unreachable { relay, peer, kind, code, data, .. } => {
                (From::Unreachable { relay, peer, icmp: Icmp { kind, code, data } }, &[][..])
            }
        };
        let marks = match *event {
            Event::Client { marks, .. } | Event::Peer { marks, .. } => marks,
            Event::Gone { .. } | Event::Unreachable { .. } => None,
        };
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.events.push((from, marks, start..self.bytes.len()));
    }

    /// The batch, in the order in which it came; with each what a datagram leaves with that goes on.
    pub(super) fn inputs(&self) -> impl Iterator<Item = (Input<'_>, Option<Marks>)> {
        self.events.iter().map(|(from, marks, range)| {
            let bytes = &self.bytes[range.clone()];
            let input = match *from {
                From::Client { client, origin } => Input::Client { client, origin, bytes },
                From::Gone { client, origin } => Input::Gone { client, origin },
                From::Peer { relay, peer } => Input::Peer { relay, peer, bytes },
                From::Unreachable { relay, peer, icmp } => Input::Unreachable { relay, peer, icmp },
            };
            (input, *marks)
        })
    }
}

/// Workers are counted by cores: there are never 65,536.
fn origin(worker: usize) -> Origin {
    Origin(u16::try_from(worker).unwrap_or(u16::MAX))
}

fn transport_of(transport: dataplane::Transport) -> Transport {
    match transport {
        dataplane::Transport::Udp => Transport::Udp,
        dataplane::Transport::Tcp => Transport::Tcp,
        dataplane::Transport::Tls => Transport::Tls,
        dataplane::Transport::Dtls => Transport::Dtls,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_out_as_they_went_in_and_a_cleared_inbox_is_empty() {
        // given
        let mut inbox = Inbox::default();
        let address = |port: u16| SocketAddr::from(([192, 0, 2, 1], port));
        // when
        let marks = |port| (port > 1).then_some(Marks { ttl: port as u8, tos: 0xb8 });
        for (port, bytes) in [(1, &b"one"[..]), (2, b""), (3, b"three")] {
            let (local, remote) = (address(3478), address(port));
            let transport = dataplane::Transport::Tls;
            let marks = marks(port);
            inbox.push(&Event::Client { worker: 1, transport, local, remote, marks, bytes });
        }
        let (local, remote) = (address(3478), address(4));
        let transport = dataplane::Transport::Dtls;
        inbox.push(&Event::Gone { worker: 1, transport, local, remote });
        // then
        let seen: Vec<(u16, Vec<u8>)> = inbox
            .inputs()
            .map(|(input, with)| match input {
                Input::Client { client, origin, bytes } => {
                    assert_eq!(with, marks(client.remote.port()));
                    assert_eq!((origin, client.local), (Origin(1), address(3478)));
                    assert_eq!(client.transport, Transport::Tls);
                    (client.remote.port(), bytes.to_vec())
                }
                Input::Gone { client, .. } => (client.remote.port(), b"gone".to_vec()),
                other => panic!("{other:?}"),
            })
            .collect();
        let expected = [(1, &b"one"[..]), (2, b""), (3, b"three"), (4, b"gone")];
        assert_eq!(seen, expected.map(|(port, bytes)| (port, bytes.to_vec())));
        inbox.clear();
        assert_eq!(inbox.inputs().count(), 0);
    }
}
