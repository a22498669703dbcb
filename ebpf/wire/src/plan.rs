//! How a frame changes: everything is settled here, before the first byte is written.

use crate::headers::{Ethernet, Ipv4, Ipv6, Udp, Vlan};
use crate::{Carried, Checksums, Family, Forward, Frame, Hop, Ingress};
use crate::{Packet, Reason, Sum, Tables, decide};
use zerocopy::network_endian::{U16, U32};

/// What a tier that handles frames knows beside its tables.
pub trait Network: Tables {
    /// The next hop at `index`, if it is usable.
    fn hop(&self, index: u16) -> Option<Hop>;
}

/// All that `rewrite` does.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'t> {
    /// Where the datagram goes.
    pub forward: Forward<'t>,
    /// Next hop.
    pub hop: Hop,
    /// Fields to keep; TTL already taken down by one.
    pub carried: Carried,
    /// Of the new UDP datagram.
    pub checksum: U16,
    /// Bytes to move the frame's head by; negative makes room.
    pub move_head: i32,
    /// Bytes to drop at the end: ChannelData padding and what Ethernet added.
    pub trim_tail: u32,
}

/// Without fragmentation a translator leaves packets up to this size fragmentable (RFC 7915
/// section 5.1).
const UNFRAGMENTED_FROM_IPV6: u16 = 1260;
/// The flag of IPv4 by which a packet stays in one piece, beside the fragment offset.
pub const DONT_FRAGMENT: u16 = 0x4000;

/// Decides about `frame` and plans its new headers.
#[inline(always)]
pub fn plan<'t, F: Frame, T: Network, I: Ingress>(
    frame: &F,
    tables: &'t T,
    ingress: &I,
) -> Result<Plan<'t>, Reason> {
    let packet = Packet::parse(frame)?;
    let port = tables.port(packet.udp.dst.get());
    if port.is_free() {
        return Err(Reason::NotOurs);
    }
    let checksums = ingress.own(packet.mac, packet.vlan).ok_or(Reason::ForeignLink)?;
    let forward = decide(&packet.datagram(frame), port, tables)?;
    if checksums == Checksums::MayBeLeft && packet.is_unfinished() {
        return Err(Reason::UnfinishedChecksum);
    }
    let hop = tables.hop(forward.route.hop).ok_or(Reason::NoHop)?;
    let delta = payload_delta(frame, &packet, &forward).ok_or(Reason::Malformed)?;
    arrange(frame, &packet, forward, hop, delta)
}

/// Plans the new headers of the datagram in `frame`, however it was decided.
///
/// `forward` says what leaves: `data` bytes, `strip` behind [`Packet::payload`], which may have been
/// moved within the frame; `payload_delta` is what that does to the sum of the payload.
///
/// # Errors
/// [`Reason::TooBig`], [`Reason::ZeroChecksum`].
#[inline(always)]
pub fn arrange<'t, F: Frame>(
    frame: &F,
    packet: &Packet,
    forward: Forward<'t>,
    hop: Hop,
    payload_delta: Sum,
) -> Result<Plan<'t>, Reason> {
    let ip = if forward.route.family() == Family::V4 { Ipv4::SIZE } else { Ipv6::SIZE };
    let size = Udp::SIZE as u16 + forward.header() + forward.data;
    if ip as u16 + size > hop.mtu {
        return Err(Reason::TooBig);
    }
    let checksum = checksum(packet, &forward, payload_delta, size)?;
    let link = if hop.vlan == U16::ZERO { Ethernet::SIZE } else { Ethernet::SIZE + Vlan::SIZE };
    let data = packet.payload + forward.strip as usize;
    let front = link + ip + Udp::SIZE + forward.header() as usize;
    Ok(Plan {
        carried: carried(packet, &forward, size, checksum),
        hop,
        checksum,
        move_head: data as i32 - front as i32,
        trim_tail: (frame.size() - data - forward.data as usize) as u32,
        forward,
    })
}

/// What taking a ChannelData header and its padding off, and putting another on, does to the sum
/// of the payload.
#[inline(always)]
fn payload_delta<F: Frame>(frame: &F, packet: &Packet, forward: &Forward) -> Option<Sum> {
    let mut delta = Sum::default();
    if forward.strip != 0 {
        let size = packet.size();
        let padding = size - forward.strip - forward.data;
        let head = frame.at::<[U16; 2]>(packet.payload)?;
        let mut gone = Sum::default().with(head[0]).with(head[1]);
        if padding > 0 {
            // one fixed view of the datagram's end, whatever the padding
            let end = frame.peek::<U32>(packet.payload + size as usize - 4)?;
            let bytes = end.get() & !(u32::MAX << (8 * (padding & 3)));
            let words = u64::from(bytes) << (8 * (size & 1));
            gone = gone
                .with((words as u16).into())
                .with(((words >> 16) as u16).into())
                .with(((words >> 32) as u16).into());
        }
        delta = delta.plus(gone.negated());
    }
    if forward.header() != 0 {
        delta = delta.with(forward.route.channel).with(forward.data.into());
    }
    Some(delta)
}

/// The new UDP checksum, from the old one (RFC 1624). Zero stays zero over IPv4, and a computed
/// zero becomes 0xffff (RFC 768).
#[inline(always)]
fn checksum(packet: &Packet, forward: &Forward, delta: Sum, size: u16) -> Result<U16, Reason> {
    if packet.udp.checksum == U16::ZERO {
        let stays = forward.route.family() == Family::V4;
        return if stays { Ok(U16::ZERO) } else { Err(Reason::ZeroChecksum) };
    }
    let (old, new) = (packet.udp.size, U16::from(size));
    // the length counts twice: in the header and in the pseudo-header
    let sum = forward.delta.plus(delta).without(packet.udp.checksum);
    let checksum = sum.without(old).without(old).with(new).with(new).checksum();
    Ok(if checksum == U16::ZERO { 0xffff.into() } else { checksum })
}

/// Fields kept from the received header, as RFC 8656 section 14 wants them.
///
/// DF is copied, and from IPv6 set as RFC 7915 section 5.1 says. A packet that may be fragmented
/// needs an identification of our own: the sender's, shifted by the relay port, so that two
/// senders behind two relay ports stay apart; from IPv6, which has none, the UDP checksum's bits.
#[inline(always)]
fn carried(packet: &Packet, forward: &Forward, size: u16, checksum: U16) -> Carried {
    let received = packet.carried;
    let (id, fragment) = match received.family {
        _ if forward.route.family() == Family::V6 => (U16::ZERO, U16::ZERO),
        Family::V4 => (received.id, received.fragment),
        Family::V6 if size + Ipv4::SIZE as u16 <= UNFRAGMENTED_FROM_IPV6 => (checksum, U16::ZERO),
        Family::V6 => (U16::ZERO, DONT_FRAGMENT.into()),
    };
    let shifted = id.get().wrapping_add(forward.route.src_port.get());
    Carried { ttl: received.ttl - 1, id: shifted.into(), fragment, ..received }
}
