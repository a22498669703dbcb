//! What the control thread sends, by letters to workers and session threads.

use super::Dataplane;
use crate::batch::Marks;
use crate::mailbox::{Letter, LetterKind};
use crate::route::{Client, IpFields, PortId, Transport};
use std::net::SocketAddr;
use wire::Reason;

impl Dataplane {
    /// Sends to a client; to a UDP client from the listening address `client.local`. Over TCP and
    /// TLS the bytes are one whole message, ChannelData with its padding. Dropped, and counted,
    /// when the ring of its worker is full, or the client is not there any more.
    pub fn to_client(&mut self, worker: usize, client: Client, bytes: &[u8]) {
        self.data_to_client(worker, client, bytes, None);
    }

    /// [`to_client`](Self::to_client) with what a peer has sent, which came with these marks: see
    /// [`IpFields::marks`].
    pub fn data_to_client(
        &mut self,
        worker: usize,
        client: Client,
        bytes: &[u8],
        marks: Option<Marks>,
    ) {
        if !self.may_leave(marks) {
            return;
        }
        let Client { transport, local, remote } = client;
        let (kind, dont_fragment, slot, generation) = (LetterKind::Client, false, 0, 0);
        let letter =
            Letter { kind, dont_fragment, marks, transport, slot, generation, remote, local };
        let sent = self.workers.get_mut(worker).is_some_and(|to| to.mail.send(&letter, bytes));
        if !sent {
            self.refused[Reason::RingFull as usize] += 1;
        }
    }

    /// False, and counted, for what had its last hop to us.
    fn may_leave(&mut self, marks: Option<Marks>) -> bool {
        let last = marks.is_some_and(|marks| marks.ttl == 0);
        self.refused[Reason::LastHop as usize] += u64::from(last);
        !last
    }

    /// Sends to a peer from a relay port. Dropped, and counted, when the worker's ring is full, the
    /// port is not open any more, or its TTL is 0.
    pub fn to_peer(&mut self, port: PortId, peer: SocketAddr, bytes: &[u8], fields: IpFields) {
        let IpFields { dont_fragment, marks } = fields;
        if !self.may_leave(marks) {
            return;
        }
        let Some(local) = self.slots.relay(port) else {
            self.refused[Reason::PortClosed as usize] += 1;
            return;
        };
        let (slot, generation) = (port.slot(), port.generation());
        let (kind, transport) = (LetterKind::Peer, Transport::Udp);
        let letter =
            Letter { kind, dont_fragment, marks, transport, slot, generation, remote: peer, local };
        let mail = &mut self.workers[port.worker()].mail;
        if mail.is_behind() || !mail.send(&letter, bytes) {
            self.refused[Reason::RingFull as usize] += 1;
        }
    }
}
