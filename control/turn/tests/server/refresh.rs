//! Refresh (RFC 8656 section 8.2).

use turn::attribute::{AttributeType, Family};
use turn::message::Method;

use crate::lab::{Lab, address, client};
use crate::user::{Mode, User, alice};
use crate::wire::Event;

#[test]
fn a_refresh_sets_the_lifetime_and_zero_ends_the_allocation() {
    let mut lab = Lab::new();
    let (mut user, relay) = alice(&mut lab, 1);
    for (asked, given) in [(0u32.wrapping_sub(1), 3600), (601, 601), (1, 600), (600, 600)] {
        assert_eq!(user.refresh(&mut lab, asked).lifetime(), given);
    }
    assert_eq!(user.ask(&mut lab, Method::REFRESH, |_| {}).lifetime(), 600);
    assert_eq!(user.refresh(&mut lab, 0).lifetime(), 0);
    assert!(!lab.wire.ports.contains_key(&relay));
    assert!(lab.server.holds_nothing());
    for method in [Method::REFRESH, Method::CREATE_PERMISSION, Method::CHANNEL_BIND] {
        assert_eq!(user.ask(&mut lab, method, |_| {}).code(), 437);
    }
    assert_eq!(user.refresh(&mut lab, 0).code(), 437);
}

#[test]
fn a_refresh_republishes_the_routes_that_end_with_the_allocation() {
    let mut lab = Lab::new();
    let (mut user, _) = alice(&mut lab, 1);
    lab.pass_secs(100);
    assert_eq!(user.bind(&mut lab, 0x4000, address("9.9.9.9:1")), 0);
    let expires = |lab: &Lab| {
        let route = lab.wire.routes[&(client(1), 0x4000)];
        (route.expires - lab.now.monotonic).as_secs()
    };
    assert_eq!(expires(&lab), 500, "the allocation's end comes first");
    user.refresh(&mut lab, 600);
    assert_eq!(expires(&lab), 600, "now both end together");
    lab.pass_secs(10);
    user.refresh(&mut lab, 3600);
    assert_eq!(expires(&lab), 590, "now the channel's comes first");
    let request = user.sign(lab.transaction(), Method::REFRESH, |b| _ = b.lifetime_secs(3600));
    let events = lab.input(user.client, &request);
    assert!(matches!(events[..], [Event::ToClient(..)]), "nothing changes: {events:?}");
}

#[test]
fn each_family_of_a_dual_allocation_has_its_own_life() {
    let mut lab = Lab::new();
    let mut user = User::new("alice", client(1), Mode::Modern);
    let [v4, v6] = user.allocate_dual(&mut lab);
    assert_eq!(user.bind(&mut lab, 0x4000, address("9.9.9.9:1")), 0);
    assert_eq!(user.bind(&mut lab, 0x4001, address("[2620:fe::9]:1")), 0);
    let of = |user: &mut User, lab: &mut Lab, family: Family, secs: u32| {
        user.ask(lab, Method::REFRESH, |b| {
            _ = b.requested_address_family(family).lifetime_secs(secs)
        })
    };
    assert_eq!(of(&mut user, &mut lab, Family::V6, 1000).lifetime(), 1000);
    lab.pass_secs(600);
    assert!(!lab.wire.ports.contains_key(&v4) && lab.wire.ports.contains_key(&v6));
    assert_eq!(lab.server.stats().allocations, 1);
    assert_eq!(of(&mut user, &mut lab, Family::V4, 600).code(), 443);
    assert_eq!(of(&mut user, &mut lab, Family::V6, 0).lifetime(), 0);
    assert!(lab.server.holds_nothing());

    let mut user = User::new("alice", client(2), Mode::Modern);
    let [v4, v6] = user.allocate_dual(&mut lab);
    assert_eq!(user.bind(&mut lab, 0x4000, address("9.9.9.9:1")), 0);
    assert_eq!(user.bind(&mut lab, 0x4001, address("[2620:fe::9]:1")), 0);
    assert_eq!(of(&mut user, &mut lab, Family::V6, 0).lifetime(), 0);
    assert!(lab.wire.ports.contains_key(&v4) && !lab.wire.ports.contains_key(&v6));
    assert_eq!(lab.wire.routes.len(), 1, "the other family's channel stays");
    assert!(lab.channel_data(client(2), 0x4000, b"x").is_some());
    assert!(lab.channel_data(client(2), 0x4001, b"x").is_none());
    assert_eq!(user.refresh(&mut lab, 0).lifetime(), 0);
    assert!(lab.server.holds_nothing());
}

/// coturn 4.6.1 and its client ask for the second family by 0x8032, the number that a draft had; RFC
/// 8656 gave ADDITIONAL-ADDRESS-FAMILY 0x8000 (section 18), and 0x8032 stands for nothing. It is
/// comprehension-optional, and MUST be ignored (RFC 8489 section 6.3). So there is an IPv4 allocation
/// and no other, and a Refresh for IPv6 "does not match the address family of the allocation, the
/// server MUST reply with a 443" (RFC 8656 section 8.2).
#[test]
fn a_second_family_that_was_asked_for_by_a_drafts_number_is_not_there_to_be_refreshed() {
    for (kind, families, refreshed) in
        [(AttributeType(0x8032), 1, 443), (AttributeType::ADDITIONAL_ADDRESS_FAMILY, 2, 0)]
    {
        let mut lab = Lab::new();
        let mut user = User::new("alice", client(1), Mode::Legacy);
        let answer = user.allocate_with(&mut lab, |b| _ = b.attribute(kind, &[2, 0, 0, 0]));
        assert_eq!(answer.relayed().len(), families, "{kind:?}");
        for (family, code) in [(Family::V6, refreshed), (Family::V4, 0)] {
            let answer = user.ask(&mut lab, Method::REFRESH, |b| {
                b.requested_address_family(family).lifetime_secs(777);
            });
            assert_eq!(answer.code(), code, "{kind:?} {family:?}");
        }
        assert_eq!(user.refresh(&mut lab, 777).lifetime(), 777, "of every family that there is");
    }
}

#[test]
fn malformed_refreshes_change_nothing() {
    let mut lab = Lab::new();
    let (mut user, relay) = alice(&mut lab, 1);
    for (code, kind, value) in [
        (443, AttributeType::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0][..]),
        (443, AttributeType::REQUESTED_ADDRESS_FAMILY, &[7, 0, 0, 0]),
        (400, AttributeType::REQUESTED_ADDRESS_FAMILY, &[1, 0]),
        (400, AttributeType::LIFETIME, &[0, 0, 0]),
        (420, AttributeType(0x7abc), &[]),
    ] {
        let answer = user.ask(&mut lab, Method::REFRESH, |b| {
            b.attribute(kind, value).lifetime_secs(0);
        });
        assert_eq!(answer.code(), code);
        assert!(answer.signed && lab.wire.ports.contains_key(&relay));
    }
}

#[test]
fn a_route_never_outlives_an_allocation_that_is_shorter_than_its_channel() {
    let minute = std::time::Duration::from_secs(60);
    let config = crate::lab::config();
    let config = turn::Config { lifetime_default: minute, lifetime_max: 2 * minute, ..config };
    let mut lab = Lab::with(config);
    let (mut user, _) = alice(&mut lab, 1);
    assert_eq!(user.bind(&mut lab, 0x4000, address("9.9.9.9:1")), 0);
    for (asked, given) in [(600, 120), (1, 60), (90, 90)] {
        assert_eq!(user.refresh(&mut lab, asked).lifetime(), given);
        let route = lab.wire.routes[&(client(1), 0x4000)];
        assert_eq!((route.expires - lab.now.monotonic).as_secs(), u64::from(given));
    }
    lab.pass_secs(90);
    assert!(lab.wire.routes.is_empty() && lab.server.holds_nothing());
}
