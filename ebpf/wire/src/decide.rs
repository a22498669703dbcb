//! Where a datagram goes. Pure: reads the tables, changes nothing.

use crate::headers::ChannelData;
use crate::table::{Entry, Found, Miss, Table, lookup};
use crate::{Datagram, Direction, Key, PortUse, Reason, Route, Sum};
use zerocopy::network_endian::U16;

/// The tables of a tier, and its clock.
pub trait Tables: Table {
    /// What a local UDP port is for.
    fn port(&self, number: u16) -> PortUse;
    /// The time, in the unit of [`Route::expires`].
    fn now(&self) -> u64;
}

/// A datagram that is to be forwarded.
#[derive(Clone, Copy, Debug)]
pub struct Forward<'t> {
    /// How it leaves.
    pub route: Route,
    /// Bytes to take off the payload's front: a ChannelData header, or nothing.
    pub strip: u16,
    /// Bytes of application data behind them.
    pub data: u16,
    /// Where it is counted toward a peer, and toward a client: one of the two, or both for a
    /// datagram that stays inside, from one of our clients to another.
    pub to_peer: Option<&'t Entry>,
    /// See `to_peer`.
    pub to_client: Option<&'t Entry>,
    /// New addresses and ports less the old ones.
    pub delta: Sum,
}

impl Forward<'_> {
    /// Bytes of the ChannelData header to put on: 0 or 4.
    #[inline(always)]
    pub fn header(&self) -> u16 {
        if self.route.channel.get() == 0 { 0 } else { ChannelData::SIZE as u16 }
    }

    /// Counts the datagram in its routes, once it is on its way.
    #[inline(always)]
    pub fn count(&self) {
        let entries = [self.to_peer, self.to_client];
        entries.into_iter().flatten().for_each(|entry| entry.count(self.data.into()));
    }

    /// The directions that it is counted in.
    #[inline(always)]
    pub fn directions(&self) -> [Option<Direction>; 2] {
        [self.to_peer.map(|_| Direction::ToPeer), self.to_client.map(|_| Direction::ToClient)]
    }
}

/// Decides about `datagram`, which came in on a port used for `port`.
#[inline(always)]
pub fn decide<'t, T: Tables>(
    datagram: &Datagram,
    port: PortUse,
    tables: &'t T,
) -> Result<Forward<'t>, Reason> {
    if port.is_free() {
        return Err(Reason::NotOurs);
    }
    let (channel, strip, data) =
        if port.is_listener() { channel_data(datagram)? } else { (U16::ZERO, 0, datagram.size) };
    let key = Key {
        remote: datagram.remote,
        local: datagram.local,
        remote_port: datagram.remote_port,
        local_port: datagram.local_port,
        channel,
        zero: U16::ZERO,
    };
    let Found { route, entry } = find(tables, &key)?;
    if tables.now() >= route.expires {
        return Err(Reason::Expired);
    }
    if datagram.ttl <= 1 {
        return Err(Reason::LastHop);
    }
    let delta = Sum::raw(route.delta);
    if strip == 0 {
        return Ok(Forward { route, strip, data, to_peer: None, to_client: Some(entry), delta });
    }
    if route.is_inner() {
        return inner(
            tables,
            Forward { route, strip, data, to_peer: Some(entry), to_client: None, delta },
        );
    }
    Ok(Forward { route, strip, data, to_peer: Some(entry), to_client: None, delta })
}

/// From one of our clients to another: the peer is a relayed address of our own, so what it would
/// receive is forwarded to its client at once (XDP_TX does not loop back to the host).
#[inline(always)]
fn inner<'t, T: Tables>(tables: &'t T, first: Forward<'t>) -> Result<Forward<'t>, Reason> {
    let Found { route, entry } = find(tables, &first.route.next_key())?;
    if tables.now() >= route.expires {
        return Err(Reason::Expired);
    }
    let delta = first.delta.plus(Sum::raw(route.delta));
    Ok(Forward { route, to_client: Some(entry), delta, ..first })
}

#[inline(always)]
fn find<'t, T: Tables>(tables: &'t T, key: &Key) -> Result<Found<'t>, Reason> {
    lookup(tables, key).map_err(|miss| match miss {
        Miss::Absent => Reason::NoRoute,
        Miss::Busy => Reason::Busy,
    })
}

/// Channel, header size and data size of a ChannelData message (RFC 8656 section 12.4).
///
/// Over UDP up to three bytes of padding may follow the data (section 12.5); pion always pads.
#[inline(always)]
fn channel_data(datagram: &Datagram) -> Result<(U16, u16, u16), Reason> {
    let [a, b, c, d] = datagram.head;
    // Multiplexing by the first byte, RFC 7983 section 7.
    if !ChannelData::is_channel(u16::from_be_bytes([a, b])) {
        return Err(if a < 0x40 && datagram.size >= 20 { Reason::Stun } else { Reason::NotStun });
    }
    let header = ChannelData::SIZE as u16;
    let data = u16::from_be_bytes([c, d]);
    let padding = u32::from(datagram.size).wrapping_sub(u32::from(header) + u32::from(data));
    if padding > 3 {
        return Err(Reason::BadChannelData);
    }
    Ok((U16::from_bytes([a, b]), header, data))
}
