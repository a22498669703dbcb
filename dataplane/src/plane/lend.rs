//! Relay ports lent to other workers than their own.
//!
//! A client's datagrams reach the worker that SO_REUSEPORT chooses by its address, and its relay
//! port is opened there. Where the two part (the client has moved, or took over a reserved port),
//! the first datagram comes to the control thread, which lends the port: another descriptor of the
//! same socket, to send by. Receiving stays with the owner.
//!
//! ```text
//!   worker a: route, but not the port ──event──> control ──lend──> worker a: sends by itself
//!   worker b: the port                            close: b closes, a is asked for its own back
//! ```
//!
//! Each descriptor has one owner at a time and is closed by the control thread alone, so that a
//! number which the kernel gives out again is never sent to by a worker that means the old socket.

use super::Dataplane;
use crate::link::socket::duplicate;
use crate::mailbox::Command;
use crate::route::PortId;
use crate::worker::indication;
use std::net::SocketAddr;
use wire::{Endpoint, Family};

/// What a worker that has no port for a datagram says of it.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    client: SocketAddr,
    listener: SocketAddr,
    by: By,
}

/// What names the port.
#[derive(Clone, Copy)]
enum By {
    Channel(u16),
    Send(Family),
}

impl Wanted {
    /// Of a datagram that came from `client` to `listener`.
    pub(super) fn of(client: SocketAddr, listener: SocketAddr, bytes: &[u8]) -> Option<Self> {
        let by = if indication::is_send(bytes) {
            By::Send(indication::family_of(indication::parse(bytes)?.peer))
        } else {
            By::Channel(u16::from_be_bytes(*bytes.first_chunk()?))
        };
        Some(Self { client, listener, by })
    }
}

impl Dataplane {
    /// Lends the port of a live route to `worker`. Where that cannot be, the control thread goes on
    /// relaying.
    pub(super) fn lend(&mut self, worker: usize, wanted: Wanted) {
        let Wanted { client, listener, by } = wanted;
        let found = match by {
            By::Send(family) => self.permits.relayed(client, listener, family),
            By::Channel(channel) => {
                let ends = [client, listener].map(Endpoint::from);
                self.routes.find(&wire::Key::new(ends[0], ends[1], channel))
            }
        };
        let Some(route) = found else { return };
        let Some(id) = self.slots.find(route.port_id, route.source().into()) else { return };
        let Some((local, number)) = self.slots.socket(id) else { return };
        let borrowers = self.loans.get(&id).map_or(&[][..], |borrowers| &borrowers[..]);
        if id.worker() == worker || borrowers.contains(&(worker as u16)) {
            return;
        }
        // out of descriptors: asked again with the next datagram
        let Ok(port) = duplicate(number, local) else { return };
        self.loans.entry(id).or_default().push(worker as u16);
        self.workers[worker].mail.command(Command::Lend { id, local, port });
    }

    /// Asks for all that was lent of a port.
    pub(super) fn recall(&mut self, id: PortId, local: SocketAddr) {
        for worker in self.loans.remove(&id).unwrap_or_default() {
            let mail = &mut self.workers[usize::from(worker)].mail;
            mail.command(Command::Recall { id, local });
        }
    }
}
