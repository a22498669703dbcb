//! Who may exchange Send and Data indications with whom: the workers' second table.
//!
//! ```text
//!  Send    (client, listener, family) ──> relayed address, its port     one for each of a UDP client
//!          (peer's IP, relayed address) ─> may it?                      one for each permission
//!  Data    (peer's IP, relayed address) ─> client, listener
//!          and the next hops of both, for what leaves as a frame
//! ```
//!
//! A table of its own, so that however many permissions clients install, no channel finds its place
//! taken, and neither the kernel program nor [`wire::decide`] can come across an entry of it. Its
//! keys are such as neither would ever look for, too: numbers below 0x4000 where a channel's is.

use super::memory::RouteTable;
use super::{View, counted, empty, nanoseconds, route_under, take_out};
use crate::route::{Permission, PermissionHops, Relayed, TableFull};
use crate::stats::Traffic;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use wire::table::{ENTRIES_MAX, Found, Miss, Table, Writer, lookup};
use wire::{Address, Endpoint, Family, Key, Tables, Tuple};

/// How often an entry that is being written is looked up again. A write takes nanoseconds, but the
/// writing thread may have been suspended in the middle of it.
const LOOKS_MAX: usize = 64;

/// In a key where a channel's number would be: a client's relayed IPv4 address.
const RELAYED_V4: u16 = 1;
/// A client's relayed IPv6 address.
const RELAYED_V6: u16 = 2;
/// A permission.
const PERMISSION: u16 = 3;

fn relayed_key(client: SocketAddr, listener: SocketAddr, family: Family) -> Key {
    let kind = if family == Family::V4 { RELAYED_V4 } else { RELAYED_V6 };
    Key::new(client.into(), listener.into(), kind)
}

fn key_of(relayed: &Relayed) -> Key {
    let family = Address::from(relayed.relay.ip()).family();
    relayed_key(relayed.client, relayed.listener, family)
}

/// Permissions are for all ports of an address (RFC 8656 section 9).
fn permission_key(peer: IpAddr, relay: SocketAddr) -> Key {
    Key::new(any_port(peer), relay.into(), PERMISSION)
}

fn any_port(ip: IpAddr) -> Endpoint {
    Endpoint { address: ip.into(), port: 0.into() }
}

/// The only writer of the table.
pub(crate) struct PermitWriter {
    table: Arc<RouteTable>,
    writer: Writer,
    entries_max: usize,
    refused: u64,
}

impl PermitWriter {
    /// An empty table of `entries_max` entries. Fails when the operating system gives no randomness
    /// for the table's secret.
    pub(crate) fn new(entries_max: usize) -> Result<Self, getrandom::Error> {
        let entries_max = entries_max.clamp(1, ENTRIES_MAX as usize);
        let (table, writer) = empty(entries_max as u32)?;
        Ok(Self { table, writer, entries_max, refused: 0 })
    }

    /// The table, for the workers.
    pub(crate) fn table(&self) -> &Arc<RouteTable> {
        &self.table
    }

    /// Entries in the table.
    pub(crate) fn live(&self) -> usize {
        self.writer.live() as usize
    }

    /// Entries that found no place.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// Adds or replaces a client's relayed address, or changes nothing.
    pub(crate) fn insert_relayed(&mut self, relayed: &Relayed) -> Result<(), TableFull> {
        let Relayed { client, listener, relay, port } = *relayed;
        let old = Tuple { src: client.into(), dst: listener.into() };
        let new = Tuple { src: relay.into(), dst: relay.into() };
        // it ends with its port; and nothing is sent without a permission, which expires
        let mut entry = wire::Route::new(old, new, 0, u64::MAX);
        entry.port_id = port.bits();
        self.insert(&key_of(relayed), &entry)
    }

    /// Takes a client's relayed address out; what was sent from it by indications.
    pub(crate) fn remove_relayed(&mut self, relayed: &Relayed) -> Traffic {
        take_out(&mut self.writer, self.table.memory(), &key_of(relayed))
    }

    /// Adds or replaces a permission, or changes nothing. One of the same client keeps its hops.
    pub(crate) fn insert_permission(&mut self, permission: &Permission) -> Result<(), TableFull> {
        let Permission { client, listener, relay, peer, expires } = *permission;
        let old = Tuple { src: any_port(peer), dst: relay.into() };
        let new = Tuple { src: listener.into(), dst: client.into() };
        let mut entry = wire::Route::new(old, new, 0, nanoseconds(expires));
        let key = permission_key(peer, relay);
        let before = route_under(&self.table, &key).filter(|before| ends(before) == ends(&entry));
        before.inspect(|before| (entry.hop, entry.peer_hop) = (before.hop, before.peer_hop));
        self.insert(&key, &entry)
    }

    /// Sets the next hops of a permission; ignored where it is not in the table.
    pub(crate) fn lead_permission(&mut self, peer: IpAddr, relay: SocketAddr, to: PermissionHops) {
        let key = permission_key(peer, relay);
        if let Some(mut entry) = route_under(&self.table, &key) {
            (entry.hop, entry.peer_hop) = (to.to_client, to.to_peer);
            let replaced = self.writer.insert(self.table.memory(), &key, &entry);
            debug_assert!(replaced.is_ok(), "replacing needs no room");
        }
    }

    /// Takes a permission out; what came by it in indications.
    pub(crate) fn remove_permission(&mut self, peer: IpAddr, relay: SocketAddr) -> Traffic {
        take_out(&mut self.writer, self.table.memory(), &permission_key(peer, relay))
    }

    /// What was sent from a client's relayed address by indications.
    pub(crate) fn sent(&self, relayed: &Relayed) -> Traffic {
        counted(self.table.memory().entry_of(&key_of(relayed)))
    }

    /// What came by a permission in indications.
    pub(crate) fn came(&self, peer: IpAddr, relay: SocketAddr) -> Traffic {
        counted(self.table.memory().entry_of(&permission_key(peer, relay)))
    }

    /// The relayed address of a client, for the port that it names.
    pub(crate) fn relayed(
        &self,
        client: SocketAddr,
        listener: SocketAddr,
        family: Family,
    ) -> Option<wire::Route> {
        // nobody writes meanwhile: this is the writing thread
        let permits = Permits::new(&self.table, Duration::ZERO);
        permits.relayed(client, listener, family).map(|found| found.route)
    }

    fn insert(&mut self, key: &Key, route: &wire::Route) -> Result<(), TableFull> {
        let memory = self.table.memory();
        let full = self.live() >= self.entries_max && memory.entry_of(key).is_none();
        let inserted = !full && self.writer.insert(memory, key, route).is_ok();
        self.refused += u64::from(!inserted);
        if inserted { Ok(()) } else { Err(TableFull) }
    }
}

/// Where an entry leads, and from where.
fn ends(entry: &wire::Route) -> (Endpoint, Endpoint) {
    (entry.source(), entry.destination())
}

/// The table at one moment, as a worker asks it.
pub(crate) struct Permits<'t>(View<'t>);

impl<'t> Permits<'t> {
    /// `table` as it is at `now`, CLOCK_MONOTONIC.
    pub(crate) fn new(table: &'t RouteTable, now: Duration) -> Self {
        Self(View::new(table, now))
    }

    /// For the numbers of its entries.
    #[inline(always)]
    pub(crate) fn view(&self) -> &View<'t> {
        &self.0
    }

    /// What a client has to send from, to peers of this family.
    pub(crate) fn relayed(
        &self,
        client: SocketAddr,
        listener: SocketAddr,
        family: Family,
    ) -> Option<Found<'_>> {
        find(&self.0, &relayed_key(client, listener, family))
    }

    /// The permission of a peer's address to exchange datagrams by a relayed address, while it lasts.
    pub(crate) fn permission(&self, peer: IpAddr, relay: SocketAddr) -> Option<Found<'_>> {
        let found = find(&self.0, &permission_key(peer, relay))?;
        (self.0.now() < found.route.expires).then_some(found)
    }
}

/// Nothing too while an entry is written for long: the control thread knows.
fn find<'t, T: Table>(table: &'t T, key: &Key) -> Option<Found<'t>> {
    for _ in 0..LOOKS_MAX {
        match lookup(table, key) {
            Err(Miss::Busy) => std::hint::spin_loop(),
            found => return found.ok(),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::PortId;
    use wire::headers::ChannelData;

    const NOW: Duration = Duration::from_secs(1000);

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn permission(peer: &str) -> Permission {
        Permission {
            client: address("192.0.2.1:5000"),
            listener: address("198.51.100.1:3478"),
            relay: address("198.51.100.1:50000"),
            peer: peer.parse().unwrap(),
            expires: NOW + Duration::from_secs(300),
        }
    }

    #[test]
    fn no_channel_and_no_peer_is_ever_looked_up_by_a_key_of_this_table() {
        // from clients `decide` asks for channels, from peers for 0
        for kind in [RELAYED_V4, RELAYED_V6, PERMISSION] {
            assert!(!ChannelData::is_channel(kind) && kind != 0);
        }
        // nor does one kind meet another, whatever the addresses
        let (any, same) = (address("192.0.2.1:0"), address("198.51.100.1:50000"));
        let keys = [
            relayed_key(any, same, Family::V4),
            relayed_key(any, same, Family::V6),
            permission_key(any.ip(), same),
        ];
        assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]);
    }

    #[test]
    fn a_permission_is_for_one_address_and_all_its_ports_until_it_expires() {
        let mut writer = PermitWriter::new(10).unwrap();
        let one = permission("203.0.113.9");
        writer.insert_permission(&one).unwrap();
        let table = Arc::clone(writer.table());
        let client = |peer: &str, relay: &str, now| {
            let permits = Permits::new(&table, now);
            let found = permits.permission(peer.parse().unwrap(), address(relay))?;
            Some(SocketAddr::from(found.route.destination()))
        };
        let relay = "198.51.100.1:50000";
        assert_eq!(client("203.0.113.9", relay, NOW), Some(one.client));
        assert_eq!(client("203.0.113.8", relay, NOW), None);
        assert_eq!(client("203.0.113.9", "198.51.100.1:50001", NOW), None);
        let last = one.expires - Duration::from_nanos(1);
        assert_eq!(client("203.0.113.9", relay, last), Some(one.client));
        assert_eq!(client("203.0.113.9", relay, one.expires), None);
        writer.remove_permission(one.peer, one.relay);
        assert_eq!(client("203.0.113.9", relay, NOW), None);
    }

    #[test]
    fn each_family_of_a_client_has_a_relayed_address_of_its_own() {
        let mut writer = PermitWriter::new(10).unwrap();
        let (client, listener) = (address("192.0.2.1:5000"), address("198.51.100.1:3478"));
        let relayed = ["198.51.100.1:50000", "[2001:db8::1]:50000"].map(|relay| {
            let port = PortId::new(0, 7, 1);
            Relayed { client, listener, relay: address(relay), port }
        });
        relayed.iter().for_each(|relayed| writer.insert_relayed(relayed).unwrap());
        let found = |writer: &PermitWriter, family| {
            let route = writer.relayed(client, listener, family)?;
            Some(SocketAddr::from(route.source()))
        };
        assert_eq!(found(&writer, Family::V4), Some(relayed[0].relay));
        assert_eq!(found(&writer, Family::V6), Some(relayed[1].relay));
        writer.remove_relayed(&relayed[0]);
        assert_eq!(found(&writer, Family::V4), None);
        assert_eq!(found(&writer, Family::V6), Some(relayed[1].relay));
    }

    #[test]
    fn a_full_table_refuses_what_is_new_counts_it_and_replaces_what_is_known() {
        let mut writer = PermitWriter::new(2).unwrap();
        let [one, two, three] = ["203.0.113.1", "203.0.113.2", "203.0.113.3"].map(permission);
        writer.insert_permission(&one).unwrap();
        writer.insert_permission(&two).unwrap();
        assert_eq!(writer.insert_permission(&three), Err(TableFull));
        assert_eq!(writer.insert_permission(&two), Ok(()));
        assert_eq!((writer.live(), writer.refused()), (2, 1));
        writer.remove_permission(one.peer, one.relay);
        assert_eq!(writer.insert_permission(&three), Ok(()));
    }
}
