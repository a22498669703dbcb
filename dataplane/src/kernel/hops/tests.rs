//! When cells are written, shared, asked about and given back.

use std::collections::BTreeSet;

use super::*;
use crate::kernel::netlink::facts::{Link, LinkKind, Mac};

const GATEWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const MAC: Mac = [2, 0, 0, 0, 0, 1];
const KNOWN: Reach = Reach::At { mac: MAC, stale: false };
const STALE: Reach = Reach::At { mac: MAC, stale: true };
const KEY: HopKey = HopKey { link: 2, next: GATEWAY, mtu: None };

fn link(index: u32, kind: LinkKind) -> Link {
    Link {
        index,
        name: format!("eth{index}"),
        mac: Some([2, 0, 0, 0, 1, index as u8]),
        mtu: 1500,
        up: true,
        loopback: false,
        kind,
        controller: None,
        program: None,
    }
}

/// Interfaces 2 and 3, and VLAN 100 of either, as interface 5.
fn links(parent: u32) -> Links {
    let mut links = Links::default();
    let vlan = LinkKind::Vlan { parent, id: 100 };
    links
        .replace(vec![link(2, LinkKind::Device), link(3, LinkKind::Device), link(5, vlan)], vec![]);
    links.set_attached(BTreeSet::from([2, 3]));
    links
}

fn hops(count: usize) -> Hops {
    Hops::new(Mapping::anonymous(count))
}

#[test]
fn a_hop_is_in_its_cell_while_its_neighbour_is_known() {
    let (mut hops, links) = (hops(8), links(2));
    let index = hops.add(KEY, Reach::Unknown, &links).unwrap();
    assert_ne!(index, NO_HOP);
    assert_eq!(hops.cells[usize::from(index)].load(), None);

    assert!(hops.set_reach(2, GATEWAY, KNOWN, &links));
    let cell = hops.cells[usize::from(index)].load().unwrap();
    let wanted = (MAC, [2, 0, 0, 0, 1, 2], 2, 1500, 0.into());
    assert_eq!((cell.dst, cell.src, cell.ifindex, cell.mtu, cell.vlan), wanted);

    hops.set_reach(2, GATEWAY, Reach::Unknown, &links);
    assert_eq!(hops.cells[usize::from(index)].load(), None);
}

#[test]
fn the_smaller_mtu_of_route_and_interface_counts() {
    let (mut hops, links) = (hops(8), links(2));
    for (mtu, wanted) in [(None, 1500), (Some(1280), 1280), (Some(9000), 1500)] {
        let index = hops.add(HopKey { mtu, ..KEY }, KNOWN, &links).unwrap();
        assert_eq!(hops.cells[usize::from(index)].load().unwrap().mtu, wanted);
    }
}

#[test]
fn an_index_given_up_rests_before_it_stands_for_another_hop() {
    let (mut hops, links) = (hops(2), links(2));
    let other = HopKey { link: 3, ..KEY };
    let index = hops.add(KEY, KNOWN, &links).unwrap();
    assert_eq!(hops.add(other, KNOWN, &links), Err(HopsFull), "only one index but 0");

    hops.release(index);
    assert_eq!(hops.cells[usize::from(index)].load(), None);
    assert_eq!(hops.add(other, KNOWN, &links), Err(HopsFull), "a program may still hold it");

    hops.tick(&links);
    assert_eq!(hops.add(other, KNOWN, &links), Ok(index));
    assert_eq!(hops.cells[usize::from(index)].load().unwrap().ifindex, 3);
}

#[test]
fn a_hop_whose_interface_changes_stays_empty_for_a_tick() {
    let (mut hops, before, after) = (hops(8), links(2), links(3));
    let index = hops.add(HopKey { link: 5, ..KEY }, KNOWN, &before).unwrap();
    assert_eq!(hops.cells[usize::from(index)].load().unwrap().vlan.get(), 100);

    hops.write_all(&after);
    assert_eq!(hops.cells[usize::from(index)].load(), None);
    hops.tick(&after);
    assert_eq!(hops.cells[usize::from(index)].load().unwrap().ifindex, 3);
}

#[test]
fn a_hop_lives_as_long_as_its_last_use() {
    let (mut hops, links) = (hops(8), links(2));
    let index = hops.add(KEY, KNOWN, &links).unwrap();
    hops.hold(index);
    hops.release(index);
    assert_eq!(hops.find(&KEY), Some(index));
    hops.release(index);
    assert_eq!((hops.find(&KEY), hops.counts()), (None, (0, 0)));
    assert!(!hops.set_reach(2, GATEWAY, KNOWN, &links), "nobody cares any more");
}

#[test]
fn giving_up_no_hop_is_nothing() {
    let mut hops = hops(8);
    hops.release(NO_HOP);
    assert_eq!(hops.counts(), (0, 0));
}

#[test]
fn unsure_neighbours_are_asked_about_and_then_left_in_peace() {
    let (mut hops, links) = (hops(8), links(2));
    hops.add(KEY, Reach::Unknown, &links).unwrap();
    assert_eq!(hops.take_questions(), [(2, GATEWAY)]);
    for _ in 0..PATIENCE_TICKS {
        assert_eq!(hops.take_questions(), []);
        hops.tick(&links);
    }
    hops.set_reach(2, GATEWAY, KNOWN, &links);
    assert_eq!(hops.take_questions(), [], "it is known");
    hops.set_reach(2, GATEWAY, STALE, &links);
    assert_eq!(hops.take_questions(), [(2, GATEWAY)], "the kernel would not check it by itself");
}

#[test]
fn every_neighbour_has_its_turn_to_be_asked_about() {
    let (mut hops, links) = (hops(1 + 3 * ASKS_MAX), links(2));
    for host in 0..3 * ASKS_MAX as u32 {
        let next = IpAddr::V4((0x0a00_0000 + host).into());
        hops.add(HopKey { next, ..KEY }, Reach::Unknown, &links).unwrap();
    }
    let mut asked = BTreeSet::new();
    for _ in 0..3 {
        let asks = hops.take_questions();
        assert_eq!(asks.len(), ASKS_MAX);
        asked.extend(asks);
    }
    assert_eq!(asked.len(), 3 * ASKS_MAX);
    assert_eq!(hops.take_questions(), []);
}
