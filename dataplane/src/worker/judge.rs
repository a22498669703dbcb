//! What is to be done with one received datagram. Reads, changes nothing.

use super::Egress;
use super::indication::{self, Send};
use crate::batch::{Arrival, Departure, Marks};
use crate::table::{Permits, View};
use std::net::IpAddr;
use wire::table::{Entry, Found, lookup};
use wire::{Datagram, Forward, Key, LISTENER, PortUse, Reason, Tables, decide};

/// The word of a listening port, for `decide`.
pub(super) const TO_LISTENER: PortUse = PortUse(LISTENER);
/// The word of a relay port, for `decide`.
pub(super) const TO_RELAY: PortUse = PortUse(PortUse::relay(0));

/// How often a route that is being written is looked up again. A write takes nanoseconds, but the
/// writing thread may have been suspended in the middle of it.
const LOOKS_MAX: usize = 64;

/// How a datagram is forwarded.
pub(super) struct Plan<'t> {
    pub(super) departure: Departure,
    /// Bytes to take off the front, and bytes of data behind them.
    pub(super) strip: usize,
    pub(super) data: usize,
    /// ChannelData header to put on.
    pub(super) header: Option<[u8; 4]>,
    pub(super) to_peer: Option<&'t Entry>,
    pub(super) to_client: Option<&'t Entry>,
}

/// How an indication, or what becomes one, is forwarded.
pub(super) struct Relaying<'t> {
    pub(super) departure: Departure,
    pub(super) entry: &'t Entry,
}

/// What is to be done with a datagram.
pub(super) enum Judgement<'t> {
    Forward(Plan<'t>),
    /// The data of a Send indication goes to its peer: so many bytes of the payload, behind so many.
    Send(Relaying<'t>, usize, usize),
    /// A peer's datagram goes to its client in a Data indication.
    Data(Relaying<'t>),
    /// For the control thread: a message that it alone can answer.
    Message,
    /// For the control thread, as far as it has room beyond what messages need: it is the truth
    /// about routes, and none was found here.
    Unrouted,
    /// The same, for a client's datagram whose route names a relay port that is not here.
    Elsewhere,
    Refuse(Reason),
}

/// A datagram that is, or becomes, an indication, and what the tables know of it.
pub(super) enum Indicated<'t> {
    /// A Send indication: its client's relayed address, and the permission of its peer.
    Send { send: Send, relayed: Found<'t>, permission: Found<'t> },
    /// A peer's datagram without a live channel: its permission, which leads to the client.
    Data(Found<'t>),
}

/// What [`judge`] has workers carry in indications, whatever it leaves by. `None` for all else, and
/// while a route is being written.
pub(super) fn indicated<'t>(
    arrival: &Arrival,
    payload: &[u8],
    port: PortUse,
    (view, permits): (&View<'_>, &'t Permits<'_>),
    egress: &Egress,
) -> Option<Indicated<'t>> {
    let message = indication::is_send(payload);
    // no lookup for the other messages
    if port.is_listener() && !message {
        return None;
    }
    let reason = decide(&datagram(arrival, payload), port, view).err()?;
    let (send, data) =
        (reason == Reason::Stun, matches!(reason, Reason::NoRoute | Reason::Expired));
    if !is_answerable(arrival, egress) {
        return None;
    }
    if send {
        return of_client(arrival, payload, permits);
    }
    (data && !port.is_listener()).then(|| of_peer(arrival, permits)).flatten()
}

/// A Send indication, if the tables know its client and its peer.
#[inline(always)]
fn of_client<'t>(
    arrival: &Arrival,
    payload: &[u8],
    permits: &'t Permits<'_>,
) -> Option<Indicated<'t>> {
    let send = indication::parse(payload)?;
    let family = indication::family_of(send.peer);
    let relayed = permits.relayed(arrival.remote, arrival.local, family)?;
    let relay = relayed.route.source().into();
    let permission = permits.permission(send.peer.ip(), relay)?;
    Some(Indicated::Send { send, relayed, permission })
}

/// A peer's datagram, if the table knows of a permission.
fn of_peer<'t>(arrival: &Arrival, permits: &'t Permits<'_>) -> Option<Indicated<'t>> {
    permits.permission(arrival.remote.ip(), arrival.local).map(Indicated::Data)
}

/// Judges a datagram from the side that `port` says.
pub(super) fn judge<'t>(
    arrival: &Arrival,
    payload: &[u8],
    port: PortUse,
    (view, permits): (&'t View<'_>, &'t Permits<'_>),
    egress: &Egress,
) -> Judgement<'t> {
    if arrival.truncated {
        return Judgement::Refuse(Reason::Truncated);
    }
    let datagram = datagram(arrival, payload);
    let mut decision = decide(&datagram, port, view);
    if let Err(Reason::Busy) = decision {
        decision = decide_again(&datagram, port, view);
    }
    let reason = match &decision {
        Ok(forward) => return plan(forward, arrival, egress),
        Err(reason) => *reason,
    };
    match reason {
        Reason::NoRoute | Reason::Expired | Reason::Busy if port.is_listener() => {
            through_socket(&datagram, arrival, view, egress)
        }
        Reason::Stun | Reason::NoRoute | Reason::Expired | Reason::Busy
            if !is_answerable(arrival, egress) =>
        {
            Judgement::Refuse(Reason::BadSource)
        }
        Reason::Stun if indication::is_send(payload) => send(arrival, payload, permits, egress),
        Reason::Stun => Judgement::Message,
        // a peer's channel may be over and its permission not
        Reason::NoRoute | Reason::Expired => data(arrival, permits, egress),
        // what is being written may be this peer's channel
        Reason::Busy => Judgement::Unrouted,
        reason => Judgement::Refuse(reason),
    }
}

/// Decides while the route is being written, which is seldom.
#[cold]
fn decide_again<'t>(
    datagram: &Datagram,
    port: PortUse,
    view: &'t View<'_>,
) -> Result<Forward<'t>, Reason> {
    for _ in 0..LOOKS_MAX {
        std::hint::spin_loop();
        match decide(datagram, port, view) {
            Err(Reason::Busy) => {}
            decision => return decision,
        }
    }
    Err(Reason::Busy)
}

/// A Send indication whose peer may have it, by the relay port's socket.
fn send<'t>(
    arrival: &Arrival,
    payload: &[u8],
    permits: &'t Permits<'_>,
    egress: &Egress,
) -> Judgement<'t> {
    let Some(Indicated::Send { send, relayed, .. }) = of_client(arrival, payload, permits) else {
        return Judgement::Message;
    };
    if arrival.ttl <= 1 {
        return Judgement::Refuse(Reason::LastHop);
    }
    let Some(by) = egress.by_route(&relayed.route) else { return Judgement::Elsewhere };
    let (to, dont_fragment) = (send.peer, send.dont_fragment);
    let departure = Departure { by, to, from: None, marks: marks(arrival), dont_fragment };
    let relaying = Relaying { departure, entry: relayed.entry };
    Judgement::Send(relaying, send.data.start, send.data.len())
}

/// A peer's datagram without a live channel, by the listener's socket if there is a permission.
fn data<'t>(arrival: &Arrival, permits: &'t Permits<'_>, egress: &Egress) -> Judgement<'t> {
    let Some(Indicated::Data(found)) = of_peer(arrival, permits) else {
        return Judgement::Unrouted;
    };
    if arrival.ttl <= 1 {
        return Judgement::Refuse(Reason::LastHop);
    }
    let listener = found.route.source().into();
    let Some((by, from)) = egress.by_listener(listener) else { return Judgement::Unrouted };
    let to = found.route.destination().into();
    let departure = Departure { by, to, from, marks: marks(arrival), dont_fragment: false };
    Judgement::Data(Relaying { departure, entry: found.entry })
}

/// What is kept of the header received (RFC 8656 section 14).
pub(super) fn marks(arrival: &Arrival) -> Option<Marks> {
    Some(Marks { ttl: arrival.ttl.saturating_sub(1), tos: arrival.tos })
}

/// A client's datagram for which `decide` found no way to the end. Where its channel leads to a
/// relayed address of our own whose client has no live channel back, only a permission, it goes
/// the long way, by both relay ports.
fn through_socket<'t>(
    datagram: &Datagram,
    arrival: &Arrival,
    view: &'t View<'_>,
    egress: &Egress,
) -> Judgement<'t> {
    let [a, b, c, d] = datagram.head;
    let key = Key {
        remote: datagram.remote,
        local: datagram.local,
        remote_port: datagram.remote_port,
        local_port: datagram.local_port,
        channel: u16::from_be_bytes([a, b]).into(),
        zero: 0.into(),
    };
    let Ok(found) = lookup(view, &key) else { return asked(Judgement::Unrouted, arrival, egress) };
    if view.now() >= found.route.expires {
        return Judgement::Refuse(Reason::Expired);
    }
    if !found.route.is_inner() {
        return asked(Judgement::Unrouted, arrival, egress);
    }
    if datagram.ttl <= 1 {
        return Judgement::Refuse(Reason::LastHop);
    }
    let forward = Forward {
        route: found.route,
        strip: 4,
        // `decide` compared it with the datagram's size before it looked for a route
        data: u16::from_be_bytes([c, d]),
        to_peer: Some(found.entry),
        to_client: None,
        delta: wire::Sum::default(),
    };
    plan(&forward, arrival, egress)
}

/// Finds the socket that a datagram leaves by.
#[inline(always)]
fn plan<'t>(forward: &Forward<'t>, arrival: &Arrival, egress: &Egress) -> Judgement<'t> {
    let route = &forward.route;
    let by = if forward.to_client.is_some() {
        egress.by_listener(route.source().into())
    } else {
        egress.by_route(route).map(|id| (id, None))
    };
    // Another worker has this relay port, or it was closed a moment ago: the control thread knows.
    let Some((by, from)) = by else { return asked(Judgement::Elsewhere, arrival, egress) };
    let to = route.destination().into();
    let departure = Departure { by, to, from, marks: marks(arrival), dont_fragment: false };
    let header = (forward.header() != 0).then(|| {
        let [a, b] = route.channel.to_bytes();
        let [c, d] = forward.data.to_be_bytes();
        [a, b, c, d]
    });
    Judgement::Forward(Plan {
        departure,
        strip: forward.strip.into(),
        data: forward.data.into(),
        header,
        to_peer: forward.to_peer,
        to_client: forward.to_client,
    })
}

fn datagram(arrival: &Arrival, payload: &[u8]) -> Datagram {
    Datagram {
        remote: arrival.remote.ip().into(),
        local: arrival.local.ip().into(),
        remote_port: arrival.remote.port().into(),
        local_port: arrival.local.port().into(),
        // a batch's buffers hold no more than 65,535 bytes
        size: payload.len() as u16,
        head: payload.first_chunk().copied().unwrap_or_default(),
        ttl: arrival.ttl,
    }
}

/// What the control thread is asked about, unless its sender is never answered.
#[cold]
fn asked<'t>(judgement: Judgement<'t>, arrival: &Arrival, egress: &Egress) -> Judgement<'t> {
    if is_answerable(arrival, egress) { judgement } else { Judgement::Refuse(Reason::BadSource) }
}

/// False for sources that are never answered: port 0, addresses that are not one host's, and
/// ourselves.
fn is_answerable(arrival: &Arrival, egress: &Egress) -> bool {
    let one_host = match arrival.remote.ip() {
        IpAddr::V4(ip) => !(ip.is_multicast() || ip.is_broadcast() || ip.is_unspecified()),
        IpAddr::V6(ip) => !(ip.is_multicast() || ip.is_unspecified()),
    };
    one_host
        && arrival.remote.port() != 0
        && arrival.remote != arrival.local
        && !egress.is_own(arrival.remote)
}
