//! What messages mean. The kernel itself answers in `network::tests`.

use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVlan, LinkFlags, LinkInfo, LinkLayerType, VlanProtocol,
};
use netlink_packet_route::neighbour::NeighbourState;
use netlink_packet_route::route::{RouteFlags, RouteLwEnCapType, RouteType};
use turnwire_tests::random::Random;

use super::facts::{LinkKind, Mac};
use super::*;

const MAC: Mac = [2, 0, 0, 0, 0, 1];
const NEXT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

fn link_message(infos: Vec<LinkInfo>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = 7;
    message.header.link_layer_type = LinkLayerType::Ether;
    message.header.flags = LinkFlags::Up | LinkFlags::LowerUp;
    message.attributes = vec![
        LinkAttribute::IfName("eth0.5".to_owned()),
        LinkAttribute::Address(MAC.to_vec()),
        LinkAttribute::Mtu(1496),
        LinkAttribute::Link(2),
        LinkAttribute::LinkInfo(infos),
    ];
    message
}

fn vlan(protocol: VlanProtocol) -> Vec<LinkInfo> {
    let data = vec![InfoVlan::Protocol(protocol), InfoVlan::Id(5)];
    vec![LinkInfo::Kind(InfoKind::Vlan), LinkInfo::Data(InfoData::Vlan(data))]
}

/// The message as the kernel would send it.
fn bytes(message: Message) -> Vec<u8> {
    let mut message = NetlinkMessage::from(message);
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

#[test]
fn a_vlan_sub_interface_is_told_with_its_parent_and_number() {
    let message = bytes(Message::NewLink(link_message(vlan(VlanProtocol::Ieee8021Q))));
    let Some(Event::Link(link)) = read_event(&message) else { panic!("no link") };
    assert_eq!(link.kind, LinkKind::Vlan { parent: 2, id: 5 });
    assert_eq!((link.index, link.name.as_str(), link.mac), (7, "eth0.5", Some(MAC)));
    assert_eq!((link.mtu, link.up), (1496, true));
}

#[test]
fn a_provider_s_vlan_is_none_that_the_program_can_tag() {
    let link = facts::link(&link_message(vlan(VlanProtocol::Ieee8021Ad))).unwrap();
    assert_eq!(link.kind, LinkKind::Stacked("vlan".to_owned()));
}

#[test]
fn cards_are_devices_and_veth_is_told_apart_and_all_else_is_stacked() {
    let kind = |infos| facts::link(&link_message(infos)).unwrap().kind;
    assert_eq!(kind(vec![]), LinkKind::Device);
    assert_eq!(kind(vec![LinkInfo::Kind(InfoKind::Veth)]), LinkKind::Veth);
    let bridge = LinkKind::Stacked("bridge".to_owned());
    assert_eq!(kind(vec![LinkInfo::Kind(InfoKind::Bridge)]), bridge);
}

#[test]
fn a_bridge_s_word_on_its_port_is_not_taken_for_the_port() {
    let mut message = link_message(vec![]);
    message.header.interface_family = AddressFamily::Bridge;
    assert_eq!(facts::link(&message), None);
}

#[test]
fn a_neighbour_counts_while_the_kernel_would_send_to_it() {
    let cases = [
        (NeighbourState::Reachable, Some(false)),
        (NeighbourState::Stale, Some(true)),
        (NeighbourState::Delay, Some(false)),
        (NeighbourState::Probe, Some(false)),
        (NeighbourState::Permanent, Some(false)),
        (NeighbourState::Incomplete, None),
        (NeighbourState::Failed, None),
        (NeighbourState::None, None),
    ];
    for (state, stale) in cases {
        let mut message = neighbour_message(3, NEXT);
        message.header.state = state;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(MAC.to_vec()));
        let reach = stale.map_or(Reach::Unknown, |stale| Reach::At { mac: MAC, stale });
        let neighbour = Neighbour { link: 3, address: NEXT, reach };
        let news = read_event(&bytes(Message::NewNeighbour(message.clone())));
        assert_eq!(news, Some(Event::Neighbour(neighbour)), "{state:?}");
        let gone = Neighbour { reach: Reach::Unknown, ..neighbour };
        let news = read_event(&bytes(Message::DelNeighbour(message)));
        assert_eq!(news, Some(Event::Neighbour(gone)), "{state:?}");
    }
}

#[test]
fn a_route_that_wraps_or_drops_leads_nowhere() {
    let route = |kind, flags, extra: Vec<RouteAttribute>| {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        (message.header.kind, message.header.flags) = (kind, flags);
        message.attributes = [vec![RouteAttribute::Oif(2)], extra].concat();
        facts::lookup(&message, NEXT)
    };
    let plain = Lookup::Via { link: 2, next: NEXT, mtu: None };
    assert_eq!(route(RouteType::Unicast, RouteFlags::empty(), vec![]), plain);
    let gateway = IpAddr::from([192, 0, 2, 254]);
    let over = route(
        RouteType::Unicast,
        RouteFlags::empty(),
        vec![RouteAttribute::Gateway(gateway.into())],
    );
    assert_eq!(over, Lookup::Via { link: 2, next: gateway, mtu: None });
    assert_eq!(route(RouteType::Local, RouteFlags::empty(), vec![]), Lookup::Local);
    let wrapped = vec![RouteAttribute::EncapType(RouteLwEnCapType::Mpls)];
    for nowhere in [
        route(RouteType::Unicast, RouteFlags::empty(), wrapped),
        route(RouteType::Unicast, RouteFlags::Linkdown, vec![]),
        route(RouteType::Broadcast, RouteFlags::empty(), vec![]),
        route(RouteType::BlackHole, RouteFlags::empty(), vec![]),
    ] {
        assert_eq!(nowhere, Lookup::Unreachable);
    }
}

#[test]
fn a_route_that_cannot_be_read_is_a_change_of_any_route() {
    // RTM_NEWNEXTHOP, which the message crate does not know.
    let mut message = bytes(Message::NewRoute(RouteMessage::default()));
    message[4..6].copy_from_slice(&104u16.to_ne_bytes());
    assert_eq!(read_event(&message), Some(Event::AllRoutes));
}

fn lengths(datagram: &[u8]) -> Vec<usize> {
    Messages(datagram).map(<[u8]>::len).collect()
}

#[test]
fn a_datagram_is_read_message_by_message() {
    // Given three messages, the first of 18 bytes and so followed by 2 of padding.
    let mut datagram = vec![0; 20 + 16 + 16];
    for (start, len) in [(0, 18u32), (20, 16), (36, 16)] {
        datagram[start..start + 4].copy_from_slice(&len.to_ne_bytes());
    }
    assert_eq!(lengths(&datagram), [18, 16, 16]);
    // When the last is cut off, the others are still read.
    assert_eq!(lengths(&datagram[..50]), [18, 16]);
    // A length of less than a header ends it.
    datagram[20..24].copy_from_slice(&3u32.to_ne_bytes());
    assert_eq!(lengths(&datagram), [18]);
    assert_eq!(lengths(&[]), []);
}

#[test]
fn damaged_messages_are_survived() {
    let mut neighbour = neighbour_message(3, NEXT);
    neighbour.attributes.push(NeighbourAttribute::LinkLayerAddress(MAC.to_vec()));
    let mut route = RouteMessage::default();
    route.header.address_family = AddressFamily::Inet6;
    route.attributes.push(RouteAttribute::Oif(2));
    let messages = [
        bytes(Message::NewLink(link_message(vlan(VlanProtocol::Ieee8021Q)))),
        bytes(Message::NewNeighbour(neighbour)),
        bytes(Message::NewRoute(route)),
    ];
    let mut random = Random::replayable(0x5eed_0002);
    for _ in 0..100_000 {
        let mut datagram = messages[random.below(messages.len())].clone();
        for _ in 0..=random.below(4) {
            let at = random.below(datagram.len());
            datagram[at] = random.next_u64() as u8;
        }
        datagram.truncate(random.below(2) * datagram.len() + random.below(datagram.len()));
        Messages(&datagram).filter_map(read_event).for_each(drop);
    }
}
