//! The workers' route table: memory of this process, read by every worker, written by the control
//! thread alone.
//!
//! ```text
//!   control thread ── RouteWriter ──> RouteTable <── decide() ── worker 0, worker 1, ...
//!                     insert, remove   (shared)       no lock, no message
//! ```
//!
//! A channel is two entries, one for each direction. It takes effect in every worker the moment
//! that it is written.

mod memory;
mod permits;

use crate::route::{Route, TableFull};
use crate::stats::{RouteCounters, Traffic};
use std::sync::Arc;
use std::time::Duration;
use wire::table::{ENTRIES_MAX, Entry, Geometry, Memory, Table, Writer};
use wire::{Endpoint, Key, PortUse, Tables, Tuple};

pub(crate) use memory::RouteTable;
pub(crate) use permits::{PermitWriter, Permits};

/// The only writer of a [`RouteTable`].
pub(crate) struct RouteWriter {
    table: Arc<RouteTable>,
    writer: Writer,
    routes_max: usize,
}

impl RouteWriter {
    /// An empty table for `routes_max` channels. Fails when the operating system gives no
    /// randomness for the table's secret.
    pub(crate) fn new(routes_max: usize) -> Result<Self, getrandom::Error> {
        let routes_max = routes_max.clamp(1, ENTRIES_MAX as usize / 2);
        let entries = 2 * routes_max as u32;
        let (table, writer) = empty(entries)?;
        Ok(Self { table, writer, routes_max })
    }

    /// The table, for the workers.
    pub(crate) fn table(&self) -> &Arc<RouteTable> {
        &self.table
    }

    /// Channels in the table.
    pub(crate) fn live(&self) -> usize {
        self.writer.live() as usize / 2
    }

    /// Adds or replaces both directions of a channel, or changes nothing.
    pub(crate) fn insert(&mut self, route: &Route) -> Result<(), TableFull> {
        let [out, back] = entries(route);
        let memory = self.table.memory();
        let known = memory.entry_of(&out.0).is_some();
        if !known && self.live() >= self.routes_max {
            return Err(TableFull);
        }
        self.writer.insert(memory, &out.0, &out.1).map_err(|_| TableFull)?;
        self.writer.insert(memory, &back.0, &back.1).map_err(|_| {
            if !known {
                self.writer.remove(memory, &out.0);
            }
            TableFull
        })
    }

    /// Takes both directions of a channel out; what they have counted.
    pub(crate) fn remove(&mut self, route: &Route) -> RouteCounters {
        let [to_peer, to_client] =
            entries(route).map(|(key, _)| take_out(&mut self.writer, self.table.memory(), &key));
        RouteCounters { to_peer, to_client }
    }

    /// True when the channel is in the table.
    #[cfg(test)]
    fn counts(&self, route: &Route) -> bool {
        entries(route).iter().all(|(key, _)| self.table.memory().entry_of(key).is_some())
    }

    /// The route under `key`, live or not.
    pub(crate) fn find(&self, key: &Key) -> Option<wire::Route> {
        route_under(&self.table, key)
    }

    /// What both directions have counted; zero for a channel that is not in the table.
    pub(crate) fn counters(&self, route: &Route) -> RouteCounters {
        let [to_peer, to_client] =
            entries(route).map(|(key, _)| counted(self.table.memory().entry_of(&key)));
        RouteCounters { to_peer, to_client }
    }
}

/// The route under `key`, live or not. For the thread that writes: nobody does meanwhile.
fn route_under(table: &RouteTable, key: &Key) -> Option<wire::Route> {
    let view = View::new(table, Duration::ZERO);
    wire::table::lookup(&view, key).ok().map(|found| found.route)
}

/// What an entry has counted; nothing where there is none.
pub(crate) fn counted(entry: Option<&Entry>) -> Traffic {
    let (packets, bytes) = entry.map_or((0, 0), Entry::counted);
    Traffic { packets, bytes }
}

/// Takes the entry of `key` out; what it has counted. What a worker has under way at that moment is
/// missed.
pub(crate) fn take_out(writer: &mut Writer, memory: Memory<'_>, key: &Key) -> Traffic {
    let entry = memory.entry_of(key);
    writer.remove(memory, key);
    // only now, so that nobody finds it any more
    counted(entry)
}

/// A table of so many entries, and its writer.
fn empty(entries: u32) -> Result<(Arc<RouteTable>, Writer), getrandom::Error> {
    let mut secret = [0; wire::table::HASH_WORDS];
    for word in &mut secret {
        *word = getrandom::u64()?;
    }
    let buckets = Geometry::buckets_for(entries).into();
    let table = Arc::new(RouteTable::new(Geometry { buckets, secret }, entries));
    let writer = Writer::new(table.memory());
    Ok((table, writer))
}

/// The two entries of a channel: client to peer, and peer to client.
pub(crate) fn entries(route: &Route) -> [(Key, wire::Route); 2] {
    let [client, listener, relay, peer] =
        [route.client, route.listener, route.relay, route.peer].map(Endpoint::from);
    let from_client = Tuple { src: client, dst: listener };
    let to_peer = Tuple { src: relay, dst: peer };
    let from_peer = Tuple { src: peer, dst: relay };
    let to_client = Tuple { src: listener, dst: client };
    let expires = nanoseconds(route.expires);
    let mut out = wire::Route::new(from_client, to_peer, 0, expires);
    let mut back = wire::Route::new(from_peer, to_client, route.channel, expires);
    out.port_id = route.port.bits();
    back.port_id = route.port.bits();
    if route.inner {
        out.flags |= wire::Route::INNER;
    }
    [(Key::new(client, listener, route.channel), out), (Key::new(peer, relay, 0), back)]
}

/// The workers' unit of time in routes.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The route table at one moment: what `decide` asks.
pub(crate) struct View<'t> {
    table: &'t RouteTable,
    now: u64,
}

impl<'t> View<'t> {
    /// The number of an entry of this table, for [`Table::entry`].
    #[inline(always)]
    pub(crate) fn number(&self, entry: &Entry) -> Option<u32> {
        self.table.entries().element_offset(entry).map(|number| number as u32)
    }

    /// `table` as it is at `now`, CLOCK_MONOTONIC.
    pub(crate) fn new(table: &'t RouteTable, now: Duration) -> Self {
        Self { table, now: nanoseconds(now) }
    }
}

impl Table for View<'_> {
    #[inline(always)]
    fn geometry(&self) -> Geometry {
        *self.table.geometry()
    }
    #[inline(always)]
    fn bucket(&self, number: u32) -> [u64; 2] {
        self.table.memory().bucket(number)
    }
    #[inline(always)]
    fn entry(&self, number: u32) -> Option<&Entry> {
        self.table.entries().get(number as usize)
    }
    #[inline(always)]
    fn moves(&self) -> u64 {
        self.table.memory().moves()
    }
}

impl Tables for View<'_> {
    /// A worker knows by the socket what a datagram is for.
    fn port(&self, _number: u16) -> PortUse {
        PortUse(0)
    }
    #[inline(always)]
    fn now(&self) -> u64 {
        self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::PortId;

    fn route(channel: u16) -> Route {
        Route {
            transport: crate::route::Transport::Udp,
            client: "192.0.2.1:5000".parse().unwrap(),
            listener: "198.51.100.1:3478".parse().unwrap(),
            channel,
            relay: "198.51.100.1:50000".parse().unwrap(),
            port: PortId::new(0, 7, 1),
            peer: std::net::SocketAddr::from(([203, 0, 113, 1], channel)),
            expires: Duration::from_secs(600),
            inner: false,
        }
    }

    #[test]
    fn a_table_takes_the_channels_it_was_made_for_and_no_more() {
        let mut writer = RouteWriter::new(1000).unwrap();
        // the secret is random, so a bucket may be full before the table is: seldom
        let unlucky = (0x4000..0x4000 + 1000)
            .filter(|channel| writer.insert(&route(*channel)) == Err(TableFull))
            .count();
        assert!(unlucky <= 5, "{unlucky} of 1000 found no place");
        for channel in 0x4800..0x4800 + 20 {
            let _ = writer.insert(&route(channel));
        }
        assert_eq!(writer.live(), 1000);
        assert_eq!(writer.insert(&route(0x4FFF)), Err(TableFull));
        let kept = (0x4000..0x4FFF).find(|channel| writer.counts(&route(*channel))).unwrap();
        assert_eq!(writer.insert(&route(kept)), Ok(()), "replacing needs no room");
        writer.remove(&route(kept));
        assert_eq!(writer.live(), 999);
    }

    #[test]
    fn adding_and_removing_leaves_nothing_behind() {
        let mut writer = RouteWriter::new(10).unwrap();
        for round in 0..1000 {
            let route = route(0x4000 + round % 0x1000);
            assert_eq!(writer.insert(&route), Ok(()));
            writer.remove(&route);
            writer.remove(&route);
        }
        assert_eq!(writer.live(), 0);
    }
}
