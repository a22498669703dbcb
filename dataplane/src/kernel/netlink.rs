//! The kernel's own view of the network: asked for by question, and kept true by its news.
//!
//! ```text
//!  questions      which way to 203.0.113.9?  who is 192.0.2.1 on eth0?  ── answered at once
//!  news           link eth0 is down; 192.0.2.1 moved; a route came or went ── read when readable
//! ```
//!
//! Two sockets, because an answer must not wait behind news. News can be lost when the kernel has
//! more of it than the socket holds (`ENOBUFS`): then everything is asked for again.

pub(crate) mod facts;
mod policies;
mod requests;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NetlinkBuffer, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage, LinkXdp};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage,
};
use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};

use facts::{Link, Lookup, Neighbour, Prefix, Reach};
pub(crate) use policies::Policies;
pub(crate) use requests::Refusal;
use requests::{DATAGRAM_MAX, Messages, Requests, family, receive};

/// `RTNLGRP_*` of `linux/rtnetlink.h`.
mod group {
    pub(super) const LINK: u32 = 1;
    pub(super) const NEIGHBOUR: u32 = 3;
    pub(super) const IPV4_ADDRESS: u32 = 5;
    pub(super) const IPV4_ROUTE: u32 = 7;
    pub(super) const IPV4_RULE: u32 = 8;
    pub(super) const IPV6_ADDRESS: u32 = 9;
    pub(super) const IPV6_ROUTE: u32 = 11;
    pub(super) const IPV6_RULE: u32 = 19;
    pub(super) const NEXT_HOP: u32 = 32;
    /// The kernel's other groups are not for us. `NEXT_HOP` is new in Linux 5.3.
    pub(super) const ALL: [u32; 9] = [
        LINK,
        NEIGHBOUR,
        IPV4_ADDRESS,
        IPV6_ADDRESS,
        IPV4_ROUTE,
        IPV6_ROUTE,
        IPV4_RULE,
        IPV6_RULE,
        NEXT_HOP,
    ];
}

/// Asked for; the kernel gives as much as `net.core.rmem_max` allows.
const NEWS_BUFFER_BYTES: i32 = 1 << 20;

/// Something that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// An interface is new, or different.
    Link(Link),
    /// An interface is gone.
    LinkGone(u32),
    /// An interface got or lost an address.
    Address { link: u32, address: IpAddr, present: bool },
    /// A neighbour is new, different or gone.
    Neighbour(Neighbour),
    /// The way to these destinations may be another one.
    Routes(Prefix),
    /// The way to any destination may be another one.
    AllRoutes,
    /// News was lost.
    Lost,
}

/// A connection to the kernel's routing subsystem, in the network namespace it was opened in.
pub(crate) struct Netlink {
    requests: Requests,
    news: Socket,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens both sockets in the calling thread's network namespace. Needs no privilege.
    pub(crate) fn open() -> io::Result<Netlink> {
        let mut news = Socket::new(NETLINK_ROUTE)?;
        news.bind_auto()?;
        news.set_non_blocking(true)?;
        news.set_rx_buf_sz(NEWS_BUFFER_BYTES)?;
        for group in group::ALL {
            news.add_membership(group)?;
        }
        Ok(Netlink { requests: Requests::open()?, news, buffer: vec![0; DATAGRAM_MAX] })
    }

    /// Readable when there is news.
    pub(crate) fn news_fd(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }

    /// Every interface.
    pub(crate) fn links(&mut self) -> Result<Vec<Link>, Refusal> {
        let mut question = LinkMessage::default();
        let mask = vec![LinkExtentMask::SkipStats];
        question.attributes.push(LinkAttribute::ExtMask(mask));
        self.requests.dump(&Message::GetLink(question), &mut |answer| match answer {
            Message::NewLink(link) => facts::link(&link),
            _ => None,
        })
    }

    /// Every address of this host, with the index of its interface.
    pub(crate) fn addresses(&mut self) -> Result<Vec<(u32, IpAddr)>, Refusal> {
        let question = Message::GetAddress(AddressMessage::default());
        self.requests.dump(&question, &mut |answer| match answer {
            Message::NewAddress(address) => facts::address(&address),
            _ => None,
        })
    }

    /// The way that a packet from `from`, an address of this host, takes to `to`.
    pub(crate) fn lookup(&mut self, from: IpAddr, to: IpAddr) -> Result<Lookup, Refusal> {
        let (family, bits) = family(to);
        let mut question = RouteMessage::default();
        question.header.address_family = family;
        question.header.destination_prefix_length = bits;
        question.attributes.push(RouteAttribute::Destination(to.into()));
        if from.is_ipv4() == to.is_ipv4() && !from.is_unspecified() {
            question.header.source_prefix_length = bits;
            question.attributes.push(RouteAttribute::Source(from.into()));
        }
        let mut found = Lookup::Unreachable;
        let asked = self.requests.ask(Message::GetRoute(question), 0, &mut |answer| {
            if let Message::NewRoute(route) = answer {
                found = facts::lookup(&route, to);
            }
        });
        match asked {
            Ok(()) => Ok(found),
            Err(refusal) if is_unreachable(&refusal) => Ok(Lookup::Unreachable),
            Err(refusal) => Err(refusal),
        }
    }

    /// Every neighbour, on all interfaces.
    pub(crate) fn neighbours(&mut self) -> Result<Vec<Neighbour>, Refusal> {
        let question = Message::GetNeighbour(NeighbourMessage::default());
        self.requests.dump(&question, &mut |answer| match answer {
            Message::NewNeighbour(message) => facts::neighbour(&message),
            _ => None,
        })
    }

    /// What the kernel knows of the neighbour `address` on the interface `link`.
    pub(crate) fn neighbour(&mut self, link: u32, address: IpAddr) -> Result<Reach, Refusal> {
        let question = Message::GetNeighbour(neighbour_message(link, address));
        let mut found = Reach::Unknown;
        let asked = self.requests.ask(question, 0, &mut |answer| {
            if let Message::NewNeighbour(message) = answer
                && let Some(neighbour) = facts::neighbour(&message)
            {
                found = neighbour.reach;
            }
        });
        match asked {
            Ok(()) => Ok(found),
            Err(refusal) if refusal.errno() == Some(libc::ENOENT) => Ok(Reach::Unknown),
            Err(refusal) => Err(refusal),
        }
    }

    /// Has the kernel find the neighbour out, or check a stale one, as if a packet were sent to it.
    ///
    /// # Errors
    ///
    /// `EPERM` without `CAP_NET_ADMIN`.
    pub(crate) fn solicit(&mut self, link: u32, address: IpAddr) -> Result<(), Refusal> {
        let mut message = neighbour_message(link, address);
        message.header.flags = NeighbourFlags::Use;
        let flags = NLM_F_CREATE | NLM_F_ACK;
        self.requests.ask(Message::NewNeighbour(message), flags, &mut |_| {})
    }

    /// Asks the driver of `link` to take the XDP program `program` the old way, which is the only
    /// one that returns the driver's words when it will not. `None` takes it off again.
    pub(crate) fn set_xdp(
        &mut self,
        link: u32,
        program: Option<BorrowedFd<'_>>,
        flags: u32,
    ) -> Result<(), Refusal> {
        use std::os::fd::AsRawFd;
        let mut message = LinkMessage::default();
        message.header.index = link;
        let fd = program.map_or(-1, |program| program.as_raw_fd());
        message.attributes.push(LinkAttribute::Xdp(vec![LinkXdp::Fd(fd), LinkXdp::Flags(flags)]));
        self.requests.ask(Message::SetLink(message), NLM_F_ACK, &mut |_| {})
    }

    /// Reads one datagram of news and hands over what it says. False when there is none.
    pub(crate) fn read_news(&mut self, each: &mut dyn FnMut(Event)) -> bool {
        match receive(&self.news, &mut self.buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            // ENOBUFS, or a failure that only asking again can mend.
            Err(_) => {
                each(Event::Lost);
                true
            }
            Ok(len) => {
                match self.buffer.get(..len) {
                    Some(datagram) => Messages(datagram).filter_map(read_event).for_each(each),
                    None => each(Event::Lost),
                }
                true
            }
        }
    }
}

/// The answers of a lookup that found no way.
fn is_unreachable(refusal: &Refusal) -> bool {
    // EINVAL: `from` is not an address of this host, or not any more.
    const ERRORS: [i32; 6] = [
        libc::ENETUNREACH,
        libc::EHOSTUNREACH,
        libc::EACCES,
        libc::EINVAL,
        libc::ENODEV,
        libc::EADDRNOTAVAIL,
    ];
    refusal.errno().is_some_and(|errno| ERRORS.contains(&errno))
}

fn neighbour_message(link: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address).0;
    message.header.ifindex = link;
    let address = match address {
        IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
        IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
    };
    message.attributes.push(NeighbourAttribute::Destination(address));
    message
}

fn read_event(bytes: &[u8]) -> Option<Event> {
    /// `RTM_NEWROUTE` to `RTM_DELROUTE`, `RTM_NEWRULE` to `RTM_DELRULE`, `RTM_NEWNEXTHOP` and
    /// `RTM_DELNEXTHOP` of `linux/rtnetlink.h`.
    const ABOUT_ROUTES: [u16; 6] = [24, 25, 32, 33, 104, 105];
    let kind = NetlinkBuffer::new(bytes).message_type();
    let payload = NetlinkMessage::<Message>::deserialize(bytes).map(|message| message.payload);
    match payload {
        Ok(NetlinkPayload::InnerMessage(message)) => event(message),
        Ok(NetlinkPayload::Overrun(_)) => Some(Event::Lost),
        // Whatever it is about routes that the message crate cannot read: it is a change of routes.
        Err(_) if ABOUT_ROUTES.contains(&kind) => Some(Event::AllRoutes),
        _ => None,
    }
}

fn event(message: Message) -> Option<Event> {
    let address = |message, present| {
        let (link, address) = facts::address(&message)?;
        Some(Event::Address { link, address, present })
    };
    match message {
        Message::NewLink(message) => facts::link(&message).map(Event::Link),
        Message::DelLink(message) => facts::link(&message).map(|link| Event::LinkGone(link.index)),
        Message::NewAddress(message) => address(message, true),
        Message::DelAddress(message) => address(message, false),
        Message::NewNeighbour(message) => facts::neighbour(&message).map(Event::Neighbour),
        Message::DelNeighbour(message) => {
            let gone = facts::neighbour(&message)?;
            Some(Event::Neighbour(Neighbour { reach: Reach::Unknown, ..gone }))
        }
        Message::NewRoute(message) | Message::DelRoute(message) => {
            facts::prefix(&message).map(Event::Routes)
        }
        Message::NewRule(_) | Message::DelRule(_) => Some(Event::AllRoutes),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
