//! What the kernel's messages say, in the few words that the fast path needs.
//!
//! Every conversion drops what Turnwire has no use for, so that nothing beyond this file knows the
//! message crate's types. A message about something else (a bridge's forwarding table, a multicast
//! route) becomes `None`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
    LinkXdp, VlanProtocol,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteType, RouteVia,
};

/// An Ethernet address.
pub(crate) type Mac = [u8; 6];

/// What an interface is made of, as far as it decides whether the program can send through it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LinkKind {
    /// A network card, or a virtual one that behaves like it (virtio).
    Device,
    /// One end of a cable to another network namespace, as a container has.
    Veth,
    /// An IEEE 802.1Q sub-interface of another interface.
    Vlan { parent: u32, id: u16 },
    /// Anything that forwards through other interfaces, by the kernel's name of it.
    Stacked(String),
}

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// `None` where the interface has no Ethernet address.
    pub(crate) mac: Option<Mac>,
    /// Largest IP packet, in bytes.
    pub(crate) mtu: u32,
    /// Switched on and with a carrier.
    pub(crate) up: bool,
    pub(crate) loopback: bool,
    pub(crate) kind: LinkKind,
    /// The bridge, bond or routing domain this interface is a port of.
    pub(crate) controller: Option<u32>,
    /// The XDP program attached to it, by number.
    pub(crate) program: Option<u32>,
}

/// One entry of the kernel's neighbour table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Neighbour {
    pub(crate) link: u32,
    pub(crate) address: IpAddr,
    pub(crate) reach: Reach,
}

/// How much the kernel knows of a neighbour (`NUD_*` in `linux/neighbour.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reach {
    /// No entry, or one without an address: being asked for, or asked for in vain.
    #[default]
    Unknown,
    /// Its address is known. `stale`: the kernel checks it again only when it is used.
    At { mac: Mac, stale: bool },
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Prefix {
    pub(crate) address: IpAddr,
    /// In bits.
    pub(crate) len: u8,
}

impl Prefix {
    /// The first and the last address in it.
    pub(crate) fn ends(self) -> RangeInclusive<IpAddr> {
        match self.address {
            IpAddr::V4(ip) => {
                let host = u32::MAX.checked_shr(self.len.into()).unwrap_or(0);
                let bits = ip.to_bits();
                Ipv4Addr::from_bits(bits & !host).into()..=Ipv4Addr::from_bits(bits | host).into()
            }
            IpAddr::V6(ip) => {
                let host = u128::MAX.checked_shr(self.len.into()).unwrap_or(0);
                let bits = ip.to_bits();
                Ipv6Addr::from_bits(bits & !host).into()..=Ipv6Addr::from_bits(bits | host).into()
            }
        }
    }

    /// The same with zeros behind its length.
    pub(crate) fn masked(self) -> Prefix {
        Prefix { address: *self.ends().start(), len: self.len }
    }

    /// Whether `address` is in it.
    pub(crate) fn contains(self, address: IpAddr) -> bool {
        self.ends().contains(&address)
    }
}

/// How the kernel would send to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// Through this interface, to this neighbour (a gateway, or the destination itself).
    Via { link: u32, next: IpAddr, mtu: Option<u32> },
    /// One of this host's own addresses.
    Local,
    /// Not at all, or in a way that rewriting a frame cannot follow (broadcast, tunnel).
    Unreachable,
}

/// The link a message describes.
pub(crate) fn link(message: &LinkMessage) -> Option<Link> {
    // Bridges announce their ports in messages of their own family, which name no kind.
    if message.header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        up: flags.contains(LinkFlags::Up) && flags.contains(LinkFlags::LowerUp),
        loopback: flags.contains(LinkFlags::Loopback),
        kind: LinkKind::Device,
        controller: None,
        program: None,
    };
    let (mut parent, mut info) = (0, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(bytes)
                if message.header.link_layer_type == LinkLayerType::Ether =>
            {
                link.mac = Mac::try_from(bytes.as_slice()).ok();
            }
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Link(index) => parent = *index,
            LinkAttribute::Controller(index) => link.controller = Some(*index),
            LinkAttribute::LinkInfo(infos) => info = Some(infos),
            LinkAttribute::Xdp(xdp) => {
                link.program = xdp.iter().find_map(|one| match one {
                    LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) => {
                        Some(*id).filter(|id| *id != 0)
                    }
                    _ => None,
                });
            }
            _ => {}
        }
    }
    link.kind = info.map_or(LinkKind::Device, |infos| kind(infos, parent));
    Some(link)
}

fn kind(infos: &[LinkInfo], parent: u32) -> LinkKind {
    let mut kind = LinkKind::Device;
    for info in infos {
        match info {
            LinkInfo::Kind(InfoKind::Netdevsim) => {}
            LinkInfo::Kind(InfoKind::Veth) => kind = LinkKind::Veth,
            LinkInfo::Kind(other) => kind = LinkKind::Stacked(other.to_string()),
            LinkInfo::Data(InfoData::Vlan(data)) => {
                let id = data.iter().find_map(|one| match one {
                    InfoVlan::Id(id) => Some(*id),
                    _ => None,
                });
                let customer = data.iter().all(
                    |one| !matches!(one, InfoVlan::Protocol(p) if *p != VlanProtocol::Ieee8021Q),
                );
                if let (Some(id), true) = (id, customer) {
                    return LinkKind::Vlan { parent, id };
                }
            }
            _ => {}
        }
    }
    kind
}

/// The interface and address that a message speaks of.
pub(crate) fn address(message: &AddressMessage) -> Option<(u32, IpAddr)> {
    let mut found = None;
    for attribute in &message.attributes {
        match attribute {
            // Of a point-to-point interface, the local end wins over the far one.
            AddressAttribute::Local(address) => found = Some(*address),
            AddressAttribute::Address(address) if found.is_none() => found = Some(*address),
            _ => {}
        }
    }
    found.map(|address| (message.header.index, address))
}

/// The neighbour a message describes.
pub(crate) fn neighbour(message: &NeighbourMessage) -> Option<Neighbour> {
    let header = &message.header;
    if !matches!(header.family, AddressFamily::Inet | AddressFamily::Inet6) {
        return None;
    }
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => {
                address = Some(IpAddr::V4(*ip));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => {
                address = Some(IpAddr::V6(*ip));
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = Mac::try_from(&bytes[..]).ok(),
            _ => {}
        }
    }
    let stale = header.state == NeighbourState::Stale;
    let known = stale
        || matches!(
            header.state,
            NeighbourState::Reachable
                | NeighbourState::Delay
                | NeighbourState::Probe
                | NeighbourState::Permanent
        );
    let reach = match mac {
        Some(mac) if known => Reach::At { mac, stale },
        _ => Reach::Unknown,
    };
    Some(Neighbour { link: header.ifindex, address: address?, reach })
}

/// The destinations that a route is for; `None` for a kind that no unicast packet takes.
pub(crate) fn prefix(message: &RouteMessage) -> Option<Prefix> {
    let header = &message.header;
    let any = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    if matches!(header.kind, RouteType::Multicast) || header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(to) => ip(to),
        _ => None,
    });
    Some(Prefix { address: address.unwrap_or(any), len: header.destination_prefix_length })
}

/// How the route in the answer to a lookup leads to `to`.
pub(crate) fn lookup(message: &RouteMessage, to: IpAddr) -> Lookup {
    match message.header.kind {
        RouteType::Unicast => {}
        RouteType::Local => return Lookup::Local,
        _ => return Lookup::Unreachable,
    }
    if message.header.flags.intersects(RouteFlags::Dead | RouteFlags::Linkdown) {
        return Lookup::Unreachable;
    }
    let (mut link, mut next, mut mtu) = (None, to, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => link = Some(*index),
            RouteAttribute::Gateway(gateway) => next = ip(gateway).unwrap_or(next),
            RouteAttribute::Via(RouteVia::Inet(gateway)) => next = IpAddr::V4(*gateway),
            RouteAttribute::Via(RouteVia::Inet6(gateway)) => next = IpAddr::V6(*gateway),
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            // Wrapped in another header on its way out.
            RouteAttribute::Encap(_) | RouteAttribute::EncapType(_) => return Lookup::Unreachable,
            _ => {}
        }
    }
    link.map_or(Lookup::Unreachable, |link| Lookup::Via { link, next, mtu })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}
