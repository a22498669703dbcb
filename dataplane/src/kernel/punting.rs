//! What the program hands to workers by AF_XDP: at which addresses, and to which sockets.
//!
//! ```text
//!   SLOTS[interface] ── 1 + first ──> SOCKETS[first + queue] ──> the worker's AF_XDP socket
//!   PLACES[address, 0]     it is ours, and which relay address
//!   PLACES[address, port]  a listener's
//! ```
//!
//! A socket leaves its place by itself when it is closed, and a place without a socket means the
//! stack: whatever happens to a worker's queues, its traffic goes on by sockets.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;

use aya::maps::{Array, HashMap as BpfHashMap, MapData, MapError, XskMap};
use wire::{LISTENER, Place, PortUse, QUEUES_MAX, SLOTS_MAX};

/// A key as the map's own type wants it.
type PlaceWords = [u64; 3];

/// Places that the map has room for: `PLACES` of the program.
const PLACES_MAX: usize = 1024;

/// The maps that say what goes to AF_XDP.
pub(crate) struct Punting {
    places: BpfHashMap<MapData, PlaceWords, u64>,
    sockets: XskMap<MapData>,
    slots: Array<MapData, u32>,
    /// What `places` holds.
    known: HashMap<PlaceWords, u64>,
    slots_taken: Positions,
}

/// Interfaces that have slots, by their position; [`FREE`] where one is gone.
#[derive(Debug, Default)]
struct Positions(Vec<u32>);

impl Positions {
    /// Of an interface that has slots.
    fn of(&self, interface: u32) -> Option<usize> {
        self.0.iter().position(|one| *one == interface)
    }

    /// Of one that has none: where it would have them.
    fn next(&self) -> usize {
        self.of(FREE).unwrap_or(self.0.len())
    }

    fn take(&mut self, position: usize, interface: u32) {
        if position == self.0.len() {
            self.0.push(interface);
        } else {
            self.0[position] = interface;
        }
    }

    fn free(&mut self, position: usize) {
        self.0[position] = FREE;
        while self.0.last() == Some(&FREE) {
            self.0.pop();
        }
    }
}

impl Punting {
    pub(crate) fn new(
        places: BpfHashMap<MapData, PlaceWords, u64>,
        sockets: XskMap<MapData>,
        slots: Array<MapData, u32>,
    ) -> Punting {
        Punting { places, sockets, slots, known: HashMap::new(), slots_taken: Positions::default() }
    }

    /// Tells the program this host's addresses. How many places found no room: what is for them
    /// goes to the stack.
    pub(crate) fn set_places(
        &mut self,
        addresses: &BTreeSet<IpAddr>,
        listen: &[SocketAddr],
        relay_ips: &[IpAddr],
    ) -> usize {
        let mut wanted = places(addresses, listen, relay_ips);
        let refused = wanted.len().saturating_sub(PLACES_MAX);
        wanted.truncate(PLACES_MAX);
        let wanted: HashMap<PlaceWords, u64> = wanted.into_iter().collect();
        self.known.retain(|place, _| {
            let stays = wanted.contains_key(place);
            stays || self.places.remove(place).is_err()
        });
        let mut failed = 0;
        for (place, word) in wanted {
            if self.known.get(&place) == Some(&word) {
                continue;
            }
            match self.places.insert(place, word, 0) {
                Ok(()) => drop(self.known.insert(place, word)),
                Err(_) => failed += 1,
            }
        }
        refused + failed
    }

    /// From now on frames of this queue may go to `socket`, which is bound to it.
    pub(crate) fn set_socket(
        &mut self,
        interface: u32,
        queue: u32,
        socket: BorrowedFd<'_>,
    ) -> Result<(), MapError> {
        let most = SLOTS_MAX / QUEUES_MAX;
        let out = || MapError::OutOfBounds { index: queue, max_entries: QUEUES_MAX };
        let known = self.slots_taken.of(interface);
        let position = known.unwrap_or_else(|| self.slots_taken.next());
        if queue >= QUEUES_MAX || position >= most as usize {
            return Err(out());
        }
        let first = position as u32 * QUEUES_MAX;
        self.sockets.set(first + queue, std::os::fd::AsRawFd::as_raw_fd(&socket), 0)?;
        if known.is_none() {
            self.slots.set(interface, first + 1, 0)?;
            self.slots_taken.take(position, interface);
        }
        Ok(())
    }

    /// The stack has the frames of this queue from now on.
    pub(crate) fn unset_socket(&mut self, interface: u32, queue: u32) {
        if let Some(position) = self.slots_taken.of(interface) {
            // what fails here was not there
            let _ = self.sockets.unset(position as u32 * QUEUES_MAX + queue);
        }
    }

    /// The interface is gone or left to the stack: its slots are another's to take.
    pub(crate) fn forget_interface(&mut self, interface: u32) {
        let Some(position) = self.slots_taken.of(interface) else { return };
        // what fails here was not there
        let _ = self.slots.set(interface, 0, 0);
        for queue in 0..QUEUES_MAX {
            let _ = self.sockets.unset(position as u32 * QUEUES_MAX + queue);
        }
        self.slots_taken.free(position);
    }
}

/// No interface has this index.
const FREE: u32 = 0;

/// All places: the addresses themselves first.
fn places(
    addresses: &BTreeSet<IpAddr>,
    listen: &[SocketAddr],
    relay_ips: &[IpAddr],
) -> Vec<(PlaceWords, u64)> {
    let addresses = || addresses.iter().filter(|ip| is_plain(ip));
    let own = addresses().map(|ip| {
        let relay = relay_ips.iter().position(|one| one == ip).map_or(0, PortUse::relay);
        (Place::new((*ip).into(), 0.into()).0, LISTENER | relay)
    });
    let listeners = listen.iter().flat_map(|listener| {
        let covers = move |ip: &&IpAddr| {
            let all = listener.ip().is_unspecified() && listener.is_ipv4() == ip.is_ipv4();
            all || listener.ip() == **ip
        };
        let at = move |ip: &IpAddr| (Place::new((*ip).into(), listener.port().into()).0, LISTENER);
        addresses().filter(covers).map(at)
    });
    own.chain(listeners).collect()
}

/// An address that means the same on every interface, and that frames come to.
fn is_plain(ip: &IpAddr) -> bool {
    !ip.is_loopback() && !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_all_addresses_has_a_place_at_each_of_its_family() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let addresses = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "fe80::1", "127.0.0.1"].map(ip);
        let listen = ["0.0.0.0:3478", "[2001:db8::1]:3479"].map(|text| text.parse().unwrap());
        let found = places(&BTreeSet::from(addresses), &listen, &[ip("192.0.2.2")]);
        let place = |text: &str, port: u16| Place::new(ip(text).into(), port.into()).0;
        let expected = [
            (place("192.0.2.1", 0), LISTENER),
            (place("192.0.2.2", 0), LISTENER | PortUse::relay(0)),
            (place("2001:db8::1", 0), LISTENER),
            (place("192.0.2.1", 3478), LISTENER),
            (place("192.0.2.2", 3478), LISTENER),
            (place("2001:db8::1", 3479), LISTENER),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn the_slots_of_interfaces_that_are_gone_are_taken_again() {
        let (mut positions, mut live) = (Positions::default(), [1, 2]);
        live.iter().for_each(|interface| positions.take(positions.next(), *interface));
        for made_anew in 3..1000 {
            let gone = std::mem::replace(&mut live[made_anew as usize % 2], made_anew);
            positions.free(positions.of(gone).expect("it has slots"));
            let position = positions.next();
            assert!(position < 2, "{made_anew} at {position}");
            positions.take(position, made_anew);
            assert!(live.iter().all(|interface| positions.of(*interface).is_some()));
        }
    }
}
