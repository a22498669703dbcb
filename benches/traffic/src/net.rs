//! Interfaces, the way to an address, and who is at its other end: what the kernel says by netlink,
//! in the calling thread's network namespace.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage, LinkXdp};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Message};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use socket2::SockRef;

use crate::scheme::Mac;

/// The kernel answers in microseconds; this is for one that is stuck.
const ANSWER: Duration = Duration::from_secs(5);
/// The kernel fills at most 32 KiB a datagram.
const DATAGRAM_MAX: usize = 64 * 1024;
/// How long a neighbour may take to answer.
const NEIGHBOUR: Duration = Duration::from_secs(3);
/// How often it is looked at.
const TICK: Duration = Duration::from_millis(20);
/// Port "discard": what is sent there only has the kernel look for the neighbour.
const DISCARD: u16 = 9;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its number in this namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its Ethernet address, if it has one.
    pub mac: Option<Mac>,
    /// The largest IP packet in bytes.
    pub mtu: u32,
    /// Switched on, with a carrier.
    pub up: bool,
    /// The number of the XDP program that is attached to it.
    pub program: Option<u32>,
    /// Packets that it has sent and received.
    pub packets: [u64; 2],
}

/// Asks one question.
fn ask(question: Message, flags: u16, answer: &mut dyn FnMut(Message)) -> io::Result<()> {
    const SEQUENCE: u32 = 1;
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    SockRef::from(&socket).set_read_timeout(Some(ANSWER))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    header.sequence_number = SEQUENCE;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(question));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut buffer = Vec::with_capacity(DATAGRAM_MAX);
    loop {
        buffer.clear();
        socket.recv(&mut buffer, 0)?;
        let mut rest = &buffer[..];
        while let Ok(head) = NetlinkBuffer::new_checked(rest) {
            let len = (head.length() as usize).next_multiple_of(4).min(rest.len());
            let (one, others) = rest.split_at(len);
            rest = others;
            // An answer of a kind that the message crate cannot read hides no other.
            let Ok(message) = NetlinkMessage::<Message>::deserialize(one) else { continue };
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(()),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(inner) => {
                    answer(inner);
                    if flags & NLM_F_DUMP == 0 {
                        return Ok(());
                    }
                }
                _ => {}
            }
        }
    }
}

/// Every interface.
///
/// # Errors
/// The kernel does not answer.
pub fn interfaces() -> Result<Vec<Interface>> {
    let mut all = Vec::new();
    ask(Message::GetLink(LinkMessage::default()), NLM_F_DUMP, &mut |answer| {
        if let Message::NewLink(link) = answer {
            all.push(interface(&link));
        }
    })
    .context("asking for interfaces")?;
    Ok(all)
}

/// The interface of this name.
///
/// # Errors
/// There is none: the error names those that there are.
pub fn named(name: &str) -> Result<Interface> {
    let all = interfaces()?;
    let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
    let found = all.iter().find(|one| one.name == name).cloned();
    found.with_context(|| format!("there is no interface {name:?}, only {}", names.join(", ")))
}

fn interface(link: &LinkMessage) -> Interface {
    let up = LinkFlags::Up | LinkFlags::LowerUp;
    let mut found = Interface {
        index: link.header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        up: link.header.flags.contains(up),
        program: None,
        packets: [0; 2],
    };
    let ethernet = !link.header.flags.contains(LinkFlags::Loopback);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => found.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => found.mtu = *mtu,
            LinkAttribute::Address(bytes) if ethernet => {
                found.mac = Mac::try_from(bytes.as_slice()).ok();
            }
            LinkAttribute::Stats64(stats) => {
                found.packets = [stats.tx_packets, stats.rx_packets];
            }
            LinkAttribute::Xdp(xdp) => {
                found.program = xdp.iter().find_map(|one| match one {
                    LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) => {
                        Some(*id).filter(|id| *id != 0)
                    }
                    _ => None,
                });
            }
            _ => {}
        }
    }
    found
}

/// The interface and the neighbour to which packets from `src` to `dst` go.
///
/// # Errors
/// There is no route, or it ends on this host.
pub fn route(src: IpAddr, dst: IpAddr) -> Result<(u32, IpAddr)> {
    let mut question = RouteMessage::default();
    let (family, bits) = family(dst);
    question.header.address_family = family;
    question.header.destination_prefix_length = bits;
    question.header.source_prefix_length = bits;
    question.attributes.push(RouteAttribute::Destination(dst.into()));
    question.attributes.push(RouteAttribute::Source(src.into()));
    let mut found = None;
    ask(Message::GetRoute(question), 0, &mut |answer| {
        if let Message::NewRoute(route) = answer {
            found = Some(route);
        }
    })
    .with_context(|| format!("there is no route from {src} to {dst}"))?;
    let route = found.with_context(|| format!("there is no route from {src} to {dst}"))?;
    if route.header.kind == RouteType::Local {
        bail!("{dst} is an address of this host: frames for it leave by no interface");
    }
    ensure!(route.header.kind == RouteType::Unicast, "the route to {dst} leads to no neighbour");
    let (mut link, mut next) = (None, dst);
    for attribute in route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => link = Some(index),
            RouteAttribute::Gateway(RouteAddress::Inet(ip))
            | RouteAttribute::Via(RouteVia::Inet(ip)) => next = ip.into(),
            RouteAttribute::Gateway(RouteAddress::Inet6(ip))
            | RouteAttribute::Via(RouteVia::Inet6(ip)) => next = ip.into(),
            _ => {}
        }
    }
    Ok((link.with_context(|| format!("the route to {dst} names no interface"))?, next))
}

fn family(ip: IpAddr) -> (AddressFamily, u8) {
    match ip {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    }
}

/// What the kernel knows of a neighbour.
fn known(link: u32, ip: IpAddr) -> Result<Option<Mac>> {
    let mut question = NeighbourMessage::default();
    question.header.family = family(ip).0;
    question.header.ifindex = link;
    question.attributes.push(NeighbourAttribute::Destination(match ip {
        IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
        IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
    }));
    let mut found = None;
    let asked = ask(Message::GetNeighbour(question), 0, &mut |answer| {
        let Message::NewNeighbour(message) = answer else { return };
        found = message.attributes.iter().find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => Mac::try_from(bytes.as_slice()).ok(),
            _ => None,
        });
    });
    match asked {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        asked => asked.map(|()| found).context("asking for a neighbour"),
    }
}

/// The Ethernet address of the neighbour `next`, towards which packets from `src` to `dst` leave by
/// the interface `link`. One that the kernel does not know it looks for: an empty datagram to port 9
/// of `dst` makes it.
///
/// # Errors
/// Nobody answers within three seconds.
pub fn neighbour(link: u32, next: IpAddr, src: IpAddr, dst: IpAddr) -> Result<Mac> {
    if let Some(mac) = known(link, next)? {
        return Ok(mac);
    }
    let socket = UdpSocket::bind((src, 0)).with_context(|| format!("a socket at {src}"))?;
    let rounds = NEIGHBOUR.as_millis() / TICK.as_millis();
    for round in 0..rounds {
        if round % 25 == 0 {
            // an error is an earlier datagram's: the neighbour table tells
            let _ = socket.send_to(&[], (dst, DISCARD));
        }
        thread::sleep(TICK);
        if let Some(mac) = known(link, next)? {
            return Ok(mac);
        }
    }
    bail!("{next}, the way to {dst}, does not answer: its Ethernet address is not known")
}

/// The name of a loaded BPF program, for people.
pub fn program_name(id: u32) -> Option<String> {
    let mut all = aya::programs::loaded_programs().filter_map(Result::ok);
    let program = all.find(|program| program.id() == id)?;
    program.name_as_str().map(str::to_owned)
}
