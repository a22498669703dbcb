//! The channels that are published to the program, and their entries in its table.
//!
//! Each channel is two entries, one for each direction, and holds two paths: from the relayed
//! address to the peer, and from the listening address to the client. What was published is kept,
//! so that it can be written again when a path moves or the clock is corrected.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::AtomicU64;

use wire::table::{Bucket, Entry, Geometry, Memory, Writer};
use wire::{Endpoint, Key, Tuple};

use super::clock::Clock;
use super::maps::Mapping;
use super::network::Network;
use super::paths::{ByPath, Path};
use crate::route::{Route, TableFull};
use crate::stats::RouteCounters;
use crate::table::{counted, take_out};

/// What makes a channel: the client's five-tuple and the channel number.
type Channel = (SocketAddr, SocketAddr, u16);

/// No address is less.
pub(super) const LEAST: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

/// The program's route table: its only writer.
pub(crate) struct Routes {
    geometry: Geometry,
    index: Mapping<Bucket>,
    entries: Mapping<Entry>,
    /// The program does not look for this: to it, a moved slot is a missing one for a moment.
    moves: AtomicU64,
    writer: Writer,
    published: HashMap<Channel, Route>,
    /// The channels over each path.
    by_path: ByPath<Channel>,
    routes_max: usize,
}

impl Routes {
    /// A table over memory that is all zero.
    pub(crate) fn new(
        geometry: Geometry,
        index: Mapping<Bucket>,
        entries: Mapping<Entry>,
        routes_max: usize,
    ) -> Routes {
        let moves = AtomicU64::new(0);
        let memory =
            Memory { geometry: &geometry, index: &index, entries: &entries, moves: &moves };
        let writer = Writer::new(memory);
        Routes {
            geometry,
            index,
            entries,
            moves,
            writer,
            published: HashMap::new(),
            by_path: ByPath::new((LEAST, LEAST, 0)),
            routes_max,
        }
    }

    /// Channels published.
    pub(crate) fn len(&self) -> usize {
        self.published.len()
    }

    /// Entries in the table, and how many it has room for.
    pub(crate) fn fill(&self) -> (usize, usize) {
        (self.writer.live() as usize, self.entries.len())
    }

    /// Publishes both directions of a channel, or replaces them, or changes nothing.
    pub(crate) fn add(
        &mut self,
        route: &Route,
        network: &mut Network,
        clock: &Clock,
    ) -> Result<(), TableFull> {
        let before = self.published.get(&channel(route)).copied();
        if before.is_none() && self.published.len() >= self.routes_max {
            return Err(TableFull);
        }
        // A channel that was bound anew to another peer is another channel.
        let before = match before {
            Some(before) if ends(&before) != ends(route) => {
                self.remove(&before, network);
                None
            }
            before => before,
        };
        if before.is_some_and(|before| before.inner == route.inner) {
            self.published.insert(channel(route), *route);
            return self.write(route, network, clock);
        }
        // Held before the old ones are released, so that a hop in use is never given up.
        paths(route).for_each(|path| network.hold(path));
        if let Err(full) = self.write(route, network, clock) {
            self.take_out(route);
            paths(route).for_each(|path| network.release(path));
            return Err(full);
        }
        before.iter().for_each(|before| self.let_go(before, network));
        paths(route).for_each(|path| self.by_path.insert(path, channel(route)));
        self.published.insert(channel(route), *route);
        Ok(())
    }

    /// Takes both directions of a channel out; what they have carried.
    pub(crate) fn remove(&mut self, route: &Route, network: &mut Network) -> RouteCounters {
        let Some(route) = self.published.remove(&channel(route)) else {
            return RouteCounters::default();
        };
        let carried = self.take_out(&route);
        self.let_go(&route, network);
        carried
    }

    /// Writes the routes again that lead over one of `paths`. How many there were.
    pub(crate) fn move_all(
        &mut self,
        moved: &HashSet<Path>,
        network: &Network,
        clock: &Clock,
    ) -> usize {
        let channels = self.by_path.over(moved);
        let routes = channels.iter().filter_map(|channel| self.published.get(channel));
        let routes: Vec<Route> = routes.copied().collect();
        self.rewrite(&routes, network, clock);
        routes.len()
    }

    /// Writes every route again.
    pub(crate) fn write_all(&mut self, network: &Network, clock: &Clock) {
        let routes: Vec<Route> = self.published.values().copied().collect();
        self.rewrite(&routes, network, clock);
    }

    /// What both directions have carried; zero for a channel that is not published.
    pub(crate) fn counters(&self, route: &Route) -> RouteCounters {
        let Some(route) = self.published.get(&channel(route)) else {
            return RouteCounters::default();
        };
        let [to_peer, to_client] = keys(route).map(|key| counted(self.memory().entry_of(&key)));
        RouteCounters { to_peer, to_client }
    }

    fn rewrite(&mut self, routes: &[Route], network: &Network, clock: &Clock) {
        for route in routes {
            // Replacing an entry that is there needs no room.
            let _ = self.write(route, network, clock);
        }
    }

    /// The paths of `route` are not needed for it any more.
    fn let_go(&mut self, route: &Route, network: &mut Network) {
        for path in paths(route) {
            self.by_path.remove(path, channel(route));
            network.release(path);
        }
    }

    fn write(&mut self, route: &Route, network: &Network, clock: &Clock) -> Result<(), TableFull> {
        for (key, entry) in entries(route, network, clock) {
            let Routes { geometry, index, entries, moves, writer, .. } = self;
            let memory = Memory { geometry, index, entries, moves };
            writer.insert(memory, &key, &entry).map_err(|_| TableFull)?;
        }
        Ok(())
    }

    fn take_out(&mut self, route: &Route) -> RouteCounters {
        let Routes { geometry, index, entries, moves, writer, .. } = self;
        let memory = Memory { geometry, index, entries, moves };
        let [to_peer, to_client] = keys(route).map(|key| take_out(writer, memory, &key));
        RouteCounters { to_peer, to_client }
    }

    fn memory(&self) -> Memory<'_> {
        let Routes { geometry, index, entries, moves, .. } = self;
        Memory { geometry, index, entries, moves }
    }
}

fn channel(route: &Route) -> Channel {
    (route.client, route.listener, route.channel)
}

/// Both ends of the far side.
fn ends(route: &Route) -> (SocketAddr, SocketAddr) {
    (route.relay, route.peer)
}

/// The ways that datagrams of a channel leave: to the peer, unless it is one of our own, and to the
/// client.
fn paths(route: &Route) -> impl Iterator<Item = Path> + use<> {
    let to_peer = (!route.inner).then(|| path(route.relay, route.peer));
    to_peer.into_iter().chain([path(route.listener, route.client)])
}

fn path(from: SocketAddr, to: SocketAddr) -> Path {
    Path::between(from.ip(), to.ip())
}

fn keys(route: &Route) -> [Key; 2] {
    let [client, listener, relay, peer] = endpoints(route);
    [Key::new(client, listener, route.channel), Key::new(peer, relay, 0)]
}

fn endpoints(route: &Route) -> [Endpoint; 4] {
    [route.client, route.listener, route.relay, route.peer].map(Endpoint::from)
}

/// The two entries of a channel: from the client to the peer, and back. Where IPsec has a say at one of
/// its ends, neither leads anywhere: what came from there is to be judged by the stack, too.
fn entries(route: &Route, network: &Network, clock: &Clock) -> [(Key, wire::Route); 2] {
    let [client, listener, relay, peer] = endpoints(route);
    let expires = clock.jiffies(route.expires);
    let (from_client, to_peer) =
        (Tuple { src: client, dst: listener }, Tuple { src: relay, dst: peer });
    let (from_peer, to_client) =
        (Tuple { src: peer, dst: relay }, Tuple { src: listener, dst: client });
    let mut there = wire::Route::new(from_client, to_peer, 0, expires);
    let mut back = wire::Route::new(from_peer, to_client, route.channel, expires);
    let [key, key_back] = keys(route);
    if paths(route).any(|path| network.is_secured(path)) {
        return [(key, there), (key_back, back)];
    }
    if route.inner {
        there.flags |= wire::Route::INNER;
    } else {
        there.hop = network.hop(path(route.relay, route.peer));
    }
    back.hop = network.hop(path(route.listener, route.client));
    [(key, there), (key_back, back)]
}
