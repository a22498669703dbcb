//! Send and Data indications in the frame that they came in.
//!
//! ```text
//!   Send   | Ethernet IP UDP | STUN header, attributes | data | padding, attributes |
//!                    | Ethernet IP UDP                 | data |
//!
//!   Data             | Ethernet IP UDP                 | data |
//!          | Ethernet IP UDP | STUN header, attributes | data | 000 |
//! ```
//!
//! The data stays where it is. What leaves is planned and written by `wire`, as channel traffic is:
//! to it a Send's header is a longer one to strip, and a Data indication is a payload that begins
//! further in front, where the old headers were. What the frame brings is verified first, as for a
//! socket: the data is another datagram from here on, and must not be sound by accident.

use crate::batch::SocketId;
use crate::frames::{checksum, packet, part};
use crate::kernel::FrameView;
use crate::link::xsk;
use crate::worker::Tables;
use crate::worker::egress::Egress;
use crate::worker::indication::{DataHeader, Ids, Send};
use crate::worker::judge::{Indicated, TO_LISTENER, TO_RELAY, indicated};
use wire::table::{Entry, Found};
use wire::{
    DONT_FRAGMENT, Direction, Family, Forward, Frame, Network, Packet, Plan, Reason, Route, Sum,
    Tuple,
};

/// What becomes of a frame without a live channel.
pub(in crate::worker) enum Way<'t> {
    /// Out by this queue: it is rewritten.
    Out(usize, Carried<'t>),
    /// To the batch. With a reason it is an indication, which leaves by a socket therefore.
    Datagram(Option<Reason>),
    /// Dropped, on this way.
    Refuse(Direction, Reason),
}

/// What is counted of an indication, once it is on its way.
pub(in crate::worker) struct Carried<'t> {
    pub(in crate::worker) direction: Direction,
    pub(in crate::worker) entry: &'t Entry,
    /// Bytes of its data.
    pub(in crate::worker) data: u16,
}

/// What a worker knows.
#[derive(Clone, Copy)]
pub(in crate::worker) struct Known<'t> {
    pub(in crate::worker) kernel: &'t FrameView<'t>,
    pub(in crate::worker) tables: &'t Tables<'t>,
    pub(in crate::worker) egress: &'t Egress,
}

/// Decides about a frame for which the kernel program's tables have no live channel, and rewrites it
/// where it goes out again.
pub(in crate::worker) fn way<'t>(
    frame: &mut xsk::View<'_>,
    known: &Known<'t>,
    ids: &mut Ids,
    out: impl Fn(u32) -> Option<usize>,
) -> Way<'t> {
    let Ok((arrival, mut packet)) = packet(frame.bytes()) else { return Way::Datagram(None) };
    let payload = packet.payload..packet.payload + usize::from(packet.size());
    let (direction, port) = match super::receiver(arrival.local, known.kernel, known.egress) {
        SocketId::RELAYED => (Direction::ToClient, TO_RELAY),
        _ => (Direction::ToPeer, TO_LISTENER),
    };
    let Tables { view, permits } = known.tables;
    let bytes = &frame.bytes()[payload];
    let Some(found) = indicated(&arrival, bytes, port, (view, permits), known.egress) else {
        return Way::Datagram(None);
    };
    if arrival.ttl <= 1 {
        return Way::Refuse(direction, Reason::LastHop);
    }
    match checksum(frame.bytes(), &packet) {
        Ok(right) => packet.udp.checksum = right.into(),
        Err(reason) => return Way::Refuse(direction, reason),
    }
    let done = match found {
        Indicated::Send { send, relayed, permission } => {
            unwrap(frame, &packet, (&send, relayed, permission.route), known.kernel, &out)
        }
        Indicated::Data(found) => wrap(frame, packet, found, ids, known.kernel, &out),
    };
    match done {
        Ok((lane, entry, data)) => Way::Out(lane, Carried { direction, entry, data }),
        Err(Reason::Torn) => Way::Refuse(direction, Reason::Torn),
        Err(reason) => Way::Datagram(Some(reason)),
    }
}

/// The queue that it leaves by, its entry, and bytes of its data. An error leaves the frame as it
/// was, but for [`Reason::Torn`].
type Done<'t> = Result<(usize, &'t Entry, u16), Reason>;

/// The data of a Send indication, by itself.
fn unwrap<'t>(
    frame: &mut xsk::View<'_>,
    packet: &Packet,
    (send, relayed, permission): (&Send, Found<'t>, Route),
    kernel: &FrameView<'_>,
    out: &impl Fn(u32) -> Option<usize>,
) -> Done<'t> {
    let hop = kernel.hop(permission.peer_hop).ok_or(Reason::NoHop)?;
    let lane = out(hop.ifindex).ok_or(Reason::NoHop)?;
    let old = Tuple { src: packet.source(), dst: packet.destination() };
    let new = Tuple { src: relayed.route.source(), dst: send.peer.into() };
    let route = Route::new(old, new, 0, relayed.route.expires);
    let (skip, data) = (send.data.start as u16, send.data.len() as u16);
    let forward = Forward {
        delta: Sum::raw(route.delta),
        route,
        strip: skip,
        data,
        to_peer: Some(relayed.entry),
        to_client: None,
    };
    let end = packet.payload + usize::from(packet.size());
    let payload = &frame.bytes()[packet.payload..end];
    let gone =
        part(&payload[..send.data.start], 0).plus(part(&payload[send.data.end..], send.data.end));
    let mut plan = wire::arrange(frame, packet, forward, hop, gone.negated())?;
    if send.dont_fragment && plan.forward.route.family() == Family::V4 {
        plan.carried.fragment = DONT_FRAGMENT.into();
    }
    wire::rewrite(frame, &plan)?;
    Ok((lane, relayed.entry, data))
}

/// A peer's datagram, in a Data indication.
fn wrap<'t>(
    frame: &mut xsk::View<'_>,
    mut packet: Packet,
    found: Found<'t>,
    ids: &mut Ids,
    kernel: &FrameView<'_>,
    out: &impl Fn(u32) -> Option<usize>,
) -> Done<'t> {
    let Found { route, entry } = found;
    let hop = kernel.hop(route.hop).ok_or(Reason::NoHop)?;
    let lane = out(hop.ifindex).ok_or(Reason::NoHop)?;
    let data = packet.size();
    let header = ids
        .draw()
        .and_then(|id| DataHeader::new(packet.source().into(), data.into(), id))
        .ok_or(Reason::TooBig)?;
    let (front, padding) = (header.bytes().len(), header.padding);
    let wrapped = front + usize::from(data) + padding;
    let end = packet.payload + usize::from(data) + padding;
    // nobody minds what is behind a datagram, should this one stay what it is
    frame.extend(end.saturating_sub(frame.size())).ok_or(Reason::NoHeadroom)?;
    // the old headers are longer than what goes in their place: see below
    packet.payload -= front;
    let delta = Sum::raw(route.delta).without(packet.udp.src);
    let size = wrapped as u16;
    let forward =
        Forward { route, strip: 0, data: size, to_peer: None, to_client: Some(entry), delta };
    let plan: Plan<'_> = wire::arrange(frame, &packet, forward, hop, part(header.bytes(), 0))?;
    wire::rewrite(frame, &plan)?;
    let message = frame.size() - wrapped;
    let bytes = &mut frame.bytes_mut()[message..];
    bytes[..front].copy_from_slice(header.bytes());
    bytes[wrapped - padding..].fill(0);
    Ok((lane, entry, data))
}

/// An IPv4 peer's datagram has 42 bytes of headers in front, and gets 36; an IPv6 peer's 62, and gets
/// 48.
const _: () = {
    use wire::headers::{Ethernet, Ipv4, Ipv6, Udp};
    let front = Ethernet::SIZE + Udp::SIZE;
    assert!(DataHeader::MAX <= front + Ipv6::SIZE);
    assert!(DataHeader::MAX - 12 <= front + Ipv4::SIZE);
};
