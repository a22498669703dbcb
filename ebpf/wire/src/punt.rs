//! Which of the frames that are not forwarded go to a worker by AF_XDP, past the host's stack.
//!
//! ```text
//!   frame ──plan──> forward ───────────────────────────────> rewrite, out    (a live route)
//!              └──> Stun, NoRoute, Expired ──is_punted──> AF_XDP queue
//!              └──> any other reason                └no──> the host's stack, as it came
//! ```
//!
//! A worker gives nothing back to the stack, so the stack gets whatever could be for somebody else,
//! or needs what only the stack does: datagrams to another address on a port of ours, other
//! protocols on a listening port (DTLS, RFC 7983), sources that the stack must judge (its martians,
//! link-local addresses, which mean nothing without their interface), long frames, and those that the
//! stack has yet to finish.

use crate::headers::ChannelData;
use crate::{
    Address, Checksums, Family, Frame, Ingress, LISTENER, Packet, PortUse, Reason, Tables,
};
use zerocopy::network_endian::U16;

/// The longest frame that is handed to a worker; a buffer of 2,048 bytes has room for it behind
/// 256 bytes of the driver's and 256 of our own.
pub const PUNTED_MAX: usize = 1536;

/// Queues of one interface that can have an AF_XDP socket.
pub const QUEUES_MAX: u32 = 64;

/// Places for AF_XDP sockets: [`QUEUES_MAX`] for each of 16 interfaces.
pub const SLOTS_MAX: u32 = 16 * QUEUES_MAX;

/// Which frames of ours go to AF_XDP, if a socket is there for their queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u64)]
pub enum Punt {
    /// None.
    #[default]
    Off = 0,
    /// What has no live route.
    Unrouted = 1,
    /// What has one as well.
    All = 2,
}

/// An address of this host in the map of places: with a port, a listener's; with port 0, by itself.
/// Three words, as the BPF target likes keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Place(pub [u64; 3]);

impl Place {
    /// Of a listener; `port` 0 for the address itself.
    #[inline(always)]
    pub fn new(address: Address, port: U16) -> Self {
        let [a, b] = address.words();
        Self([a, b, u16::from_ne_bytes(port.to_bytes()).into()])
    }
}

/// What is known of this host's addresses.
pub trait Places {
    /// Bits of [`PortUse`]: at an address's own place [`LISTENER`] (it is ours) and the bits of the
    /// relay addresses that it is; at a listener's place [`LISTENER`]. 0 for any other place.
    fn place(&self, place: Place) -> u64;
}

/// True when a frame for which `plan` gave `reason` (none: it has a route) goes to AF_XDP.
#[inline(always)]
pub fn is_punted<F: Frame, T: Tables, P: Places, I: Ingress>(
    frame: &F,
    tables: &T,
    places: &P,
    ingress: &I,
    reason: Option<Reason>,
) -> bool {
    if !matches!(reason, None | Some(Reason::Stun | Reason::NoRoute | Reason::Expired)) {
        return false;
    }
    let Ok(packet) = Packet::parse(frame) else { return false };
    if frame.size() > PUNTED_MAX || is_special(packet.src) {
        return false;
    }
    match ingress.own(packet.mac, packet.vlan) {
        Some(Checksums::MayBeLeft) if packet.is_unfinished() => return false,
        Some(_) => {}
        None => return false,
    }
    let port = tables.port(packet.udp.dst.get());
    let ours = if port.is_listener() {
        is_for_listener(packet.datagram(frame).head)
            && places.place(Place::new(packet.dst, packet.udp.dst)) & LISTENER != 0
    } else {
        is_relayed(port, places.place(Place::new(packet.dst, U16::ZERO)))
    };
    // from an address of our own: the stack knows what to make of it
    ours && places.place(Place::new(packet.src, U16::ZERO)) == 0
}

/// STUN and ChannelData, by the first byte (RFC 7983 section 7, RFC 8656 section 12).
#[inline(always)]
fn is_for_listener([a, b, ..]: [u8; 4]) -> bool {
    a < 4 || ChannelData::is_channel(u16::from_be_bytes([a, b]))
}

#[inline(always)]
fn is_relayed(port: PortUse, place: u64) -> bool {
    port.0 & place & !LISTENER != 0
}

/// Sources that are not one host elsewhere, or are only so together with an interface.
#[inline(always)]
fn is_special(source: Address) -> bool {
    let [high, low] = source.words();
    let (a, b, last) = (high as u8, (high >> 8) as u8, (low >> 32) as u8);
    match source.family() {
        // 0/8, 127/8, 224/4, 240/4
        Family::V4 => last == 0 || last == 127 || last >= 224,
        // ::/8 holds :: and ::1; fe80::/10, ff00::/8
        Family::V6 => a == 0 || a == 0xff || a == 0xfe && b & 0xc0 == 0x80,
    }
}
