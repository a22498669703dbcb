//! What a session thread tells the control thread.

use crate::link::socket::Bound;
use crate::mailbox::{Letter, LetterKind, WorkerEnd};
use crate::route::{Client, PortId, Transport};
use std::collections::VecDeque;
use std::net::SocketAddr;

/// The mailbox, and the clients whose end is still to be told.
pub(crate) struct Desk {
    pub(crate) mail: WorkerEnd<Bound>,
    /// Ended while the ring was full. A client is in it once, and none is accepted while there are
    /// [`GONE_MAX`], so that it is no longer than that and the clients that there may be.
    gone: VecDeque<Client>,
}

/// Ends that may wait to be told before no further client is accepted.
pub(crate) const GONE_MAX: usize = 1024;

impl Desk {
    pub(crate) fn new(mail: WorkerEnd<Bound>) -> Self {
        Self { mail, gone: VecDeque::new() }
    }

    /// Hands over a client's message, if more than `reserve` bytes of the ring stay free.
    pub(crate) fn client(&mut self, client: &Client, bytes: &[u8], reserve: usize) -> bool {
        // an end comes before the beginning of the next with the same five-tuple
        self.tell_gone();
        self.gone.is_empty()
            && self.mail.report(&letter(LetterKind::Client, client), bytes, reserve)
    }

    /// Hands over something about a relay port.
    pub(crate) fn port(
        &mut self,
        kind: LetterKind,
        id: PortId,
        [peer, relay]: [SocketAddr; 2],
        bytes: &[u8],
    ) -> bool {
        let letter = Letter {
            kind,
            dont_fragment: false,
            marks: None,
            transport: Transport::Udp,
            slot: id.slot(),
            generation: id.generation(),
            remote: peer,
            local: relay,
        };
        let reserve = self.mail.events_size() / 2;
        self.mail.report(&letter, bytes, reserve)
    }

    /// A client that the control thread knows has ended.
    pub(crate) fn gone(&mut self, client: Client) {
        self.gone.push_back(client);
        self.tell_gone();
    }

    /// Tells of ends as far as the ring has room.
    pub(crate) fn tell_gone(&mut self) {
        while let Some(client) = self.gone.front() {
            if !self.mail.report(&letter(LetterKind::Gone, client), &[], 0) {
                return;
            }
            self.gone.pop_front();
        }
    }

    /// Ends that wait to be told.
    pub(crate) fn gone_waiting(&self) -> usize {
        self.gone.len()
    }
}

fn letter(kind: LetterKind, client: &Client) -> Letter {
    let Client { transport, local, remote } = *client;
    let (dont_fragment, marks, slot, generation) = (false, None, 0, 0);
    Letter { kind, dont_fragment, marks, transport, slot, generation, remote, local }
}
