//! A worker with one channel, or one permission, over a link without a kernel beneath it, stepped by hand: what a
//! datagram costs the worker itself, for benches/micro.

use super::indication::DataHeader;
use super::{Listener, Shared, Worker};
use crate::batch::{Arrival, BATCH_MAX, Batch, Outcome, SocketId};
use crate::link::{Link, Oddities, Unreachable};
use crate::mailbox::{Bell, Command, mailbox};
use crate::route::{Permission, PortId, Relayed, Route, Transport};
use crate::stats::Counters;
use crate::table::{PermitWriter, RouteWriter};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const NOW: Duration = Duration::from_secs(1000);
const SLOT: u32 = 0;
const CHANNEL: u16 = 0x4000;

/// One side's datagram, received again and again.
struct Prepared {
    id: SocketId,
    arrival: Arrival,
    bytes: Vec<u8>,
    /// How often it is still to be received.
    left: usize,
}

struct Endless([Prepared; 2]);

impl Link for Endless {
    type Port = ();

    fn open(&mut self, _slot: u32, (): ()) -> Option<()> {
        None
    }

    fn close(&mut self, _slot: u32) -> Option<()> {
        None
    }

    fn wait(&mut self, _timeout: Option<Duration>) -> io::Result<()> {
        Ok(())
    }

    fn is_ready(&self) -> bool {
        self.0.iter().any(|side| side.left > 0)
    }

    fn receive(&mut self, batch: &mut Batch) -> Option<SocketId> {
        let side = self.0.iter_mut().find(|side| side.left > 0)?;
        while side.left > 0 && !batch.is_full() {
            batch.push_from(side.id, &side.bytes, None, side.arrival);
            side.left -= 1;
        }
        Some(side.id)
    }

    fn send(&mut self, batch: &mut Batch) {
        for index in 0..batch.len() {
            if batch.departure(index).is_some() {
                batch.settle(index, Outcome::Sent);
            }
        }
    }

    fn unreachable(&mut self) -> Option<Unreachable> {
        None
    }

    fn oddities(&self) -> Oddities {
        Oddities::default()
    }
}

/// See the module.
pub struct Stepped {
    worker: Worker<Endless>,
    counters: Arc<Counters>,
}

impl Stepped {
    /// A worker with one channel, whose datagrams carry `data` bytes of application data.
    pub fn new(data: u16) -> Self {
        Self::carrying(data, false)
    }

    /// The same with a permission in the channel's place: the client sends Send indications, and
    /// gets Data indications.
    pub fn indications(data: u16) -> Self {
        Self::carrying(data, true)
    }

    fn carrying(data: u16, indications: bool) -> Self {
        let [client, listener, relay, peer] = [
            ([192, 0, 2, 1], 5000),
            ([198, 51, 100, 1], 3478),
            ([198, 51, 100, 1], 50_000),
            ([203, 0, 113, 9], 6000),
        ]
        .map(SocketAddr::from);
        let port = PortId::new(0, SLOT, 0);
        let (transport, expires) = (Transport::Udp, NOW + Duration::from_secs(600));
        let (channel, inner) = (CHANNEL, false);
        let route =
            Route { transport, client, listener, channel, relay, port, peer, expires, inner };
        let mut routes = RouteWriter::new(16).expect("the operating system has randomness");
        let (mut control, mail) = mailbox(0, Arc::new(Bell::silent()), Arc::new(Bell::silent()));
        let side = |id, remote, local, bytes: Vec<u8>| {
            let arrival = Arrival { remote, local, ttl: 64, tos: 0, truncated: false };
            Prepared { id, arrival, bytes, left: 0 }
        };
        let payload = vec![0xc5; data.into()];
        let wrapped = if indications {
            send_indication(peer, &payload)
        } else {
            [&CHANNEL.to_be_bytes()[..], &data.to_be_bytes(), &payload].concat()
        };
        let link = Endless([
            side(SocketId::listener(0), client, listener, wrapped),
            side(SocketId::port(SLOT), peer, relay, payload),
        ]);
        let mut permits = PermitWriter::new(16).expect("the operating system has randomness");
        let relayed = Relayed { client, listener, relay, port };
        let permission = Permission { client, listener, relay, peer: peer.ip(), expires };
        let added = if indications {
            permits.insert_relayed(&relayed).and(permits.insert_permission(&permission))
        } else {
            routes.insert(&route)
        };
        added.expect("an empty table has room");
        let shared =
            Shared { routes: Arc::clone(routes.table()), permits: Arc::clone(permits.table()) };
        let counters = Arc::<Counters>::default();
        let listeners = vec![Listener { local: listener }];
        let batch = Batch::new(BATCH_MAX, 2048);
        let mut worker = Worker::new(link, mail, listeners, shared, Arc::clone(&counters), batch);
        control.command(Command::Open { id: port, local: relay, port: () });
        worker.round(NOW);
        Self { worker, counters }
    }

    /// One round in which so many datagrams come from the client and from the peer, at most 2048
    /// together. Says how many datagrams were forwarded since the beginning.
    pub fn round(&mut self, from_client: usize, from_peer: usize) -> u64 {
        let [client, peer] = &mut self.worker.link.0;
        (client.left, peer.left) = (from_client, from_peer);
        self.worker.round(NOW);
        self.counters.snapshot().forwarded.iter().map(|traffic| traffic.packets).sum()
    }
}

/// A Send indication: but for its type the same as a Data indication.
fn send_indication(peer: SocketAddr, data: &[u8]) -> Vec<u8> {
    let header = DataHeader::new(peer, data.len(), &[7; 12]).expect("it fits a datagram");
    let mut bytes = [header.bytes(), data, &[0; 3][..header.padding]].concat();
    bytes[1] = 0x16;
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_datagram_of_a_round_is_forwarded() {
        let mut stepped = Stepped::new(160);
        assert_eq!(stepped.round(64, 0), 64);
        assert_eq!(stepped.round(0, 100), 164);
        assert_eq!(stepped.round(3, 4), 171);
        let mut stepped = Stepped::indications(161);
        assert_eq!((stepped.round(64, 0), stepped.round(3, 100)), (64, 167));
        assert_eq!(stepped.counters.snapshot().indications, [67, 100]);
    }
}
