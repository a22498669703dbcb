//! CreatePermission (RFC 8656 sections 9 and 10.2).

use turn::attribute::AttributeType;
use turn::message::Method;
use turn::{Config, Limits, Reason};

use crate::lab::{Lab, address, client, config};
use crate::user::{Mode, User, alice};

#[test]
fn a_permission_is_for_an_address_whatever_the_port() {
    let mut lab = Lab::new();
    let (mut user, relay) = alice(&mut lab, 1);
    assert!(lab.send(client(1), address("9.9.9.9:7"), b"x").is_none());
    assert!(lab.by_peer(relay, address("9.9.9.9:7"), b"x").is_none());
    assert_eq!(user.permit(&mut lab, &[address("9.9.9.9:0"), address("9.9.9.9:5")]), 0);
    assert_eq!(lab.server.stats().permissions, 1);
    assert!(lab.send(client(1), address("9.9.9.9:7"), b"x").is_some());
    assert!(lab.by_peer(relay, address("9.9.9.9:8"), b"x").is_some());
    assert!(lab.by_peer(relay, address("9.9.9.10:8"), b"x").is_none());
    assert_eq!(lab.refused(Reason::DataNoPermission), 3);
}

#[test]
fn several_addresses_are_all_or_nothing() {
    let mut lab = Lab::new();
    let (mut user, _) = alice(&mut lab, 1);
    let good = [address("9.9.9.1:1"), address("9.9.9.2:1")];
    for (bad, code) in [("127.0.0.1:1", 403), ("[2620:fe::9]:1", 443), ("93.184.216.10:3478", 403)]
    {
        assert_eq!(user.permit(&mut lab, &[good[0], good[1], address(bad)]), code, "{bad}");
        assert_eq!(user.permit(&mut lab, &[address(bad), good[0], good[1]]), code, "{bad}");
    }
    let answer = user.ask(&mut lab, Method::CREATE_PERMISSION, |b| {
        b.xor_peer_address(good[0]).attribute(AttributeType::XOR_PEER_ADDRESS, &[0, 1, 2]);
    });
    assert_eq!(answer.code(), 400);
    assert_eq!(user.permit(&mut lab, &[]), 400);
    assert_eq!(lab.server.stats().permissions, 0);
    assert_eq!(user.permit(&mut lab, &good), 0);
    assert_eq!(lab.server.stats().permissions, 2);
}

#[test]
fn both_families_of_a_dual_allocation_have_permissions() {
    let mut lab = Lab::new();
    let mut user = User::new("bob", client(1), Mode::Modern);
    let [v4, v6] = user.allocate_dual(&mut lab);
    assert_eq!(user.permit(&mut lab, &[address("9.9.9.9:1"), address("[2620:fe::9]:1")]), 0);
    assert_eq!(lab.send(client(1), address("9.9.9.9:1"), b"a").unwrap().0, v4);
    assert_eq!(lab.send(client(1), address("[2620:fe::9]:1"), b"b").unwrap().0, v6);
    assert!(lab.by_peer(v4, address("[2620:fe::9]:1"), b"b").is_none());
}

#[test]
fn the_limit_counts_new_addresses_only_and_nothing_open_suffers() {
    let limits = Limits { permissions_per_allocation: 3, ..Limits::default() };
    let mut lab = Lab::with(Config { limits, ..config() });
    let (mut user, _) = alice(&mut lab, 1);
    let peers: Vec<_> = (1..=5).map(|n| address(&format!("9.9.9.{n}:1"))).collect();
    assert_eq!(user.permit(&mut lab, &peers[..3]), 0);
    assert_eq!(user.permit(&mut lab, &peers[..3]), 0);
    assert_eq!(user.permit(&mut lab, &peers[2..4]), 508);
    assert_eq!(user.bind(&mut lab, 0x4000, peers[4]), 508);
    assert_eq!(user.bind(&mut lab, 0x4000, peers[0]), 0);
    assert_eq!(lab.refused(Reason::PermissionsFull), 2);
    assert!(peers[..3].iter().all(|&peer| lab.send(client(1), peer, b"x").is_some()));
    lab.pass_secs(300);
    assert_eq!(user.permit(&mut lab, &peers[2..5]), 0);
}

#[test]
fn a_policy_that_denies_more_ends_what_it_denies_at_once() {
    let mut lab = Lab::new();
    let (mut user, relay) = alice(&mut lab, 1);
    let (bad, good) = (address("9.9.9.9:1"), address("8.8.8.8:1"));
    for (channel, peer) in [(0x4000, bad), (0x4001, good)] {
        assert_eq!(user.bind(&mut lab, channel, peer), 0);
    }
    let deny = vec![turn::policy::parse_rule("9.9.9.0/24").unwrap()];
    let policy = turn::Policy::new(turn::policy::Profile::Public, Vec::new(), deny);
    lab.server.replace_policy(policy, lab.now, &mut lab.wire);
    assert_eq!(lab.wire.routes.len(), 1);
    assert!(lab.channel_data(client(1), 0x4000, b"x").is_none());
    assert!(lab.send(client(1), bad, b"x").is_none());
    assert!(lab.by_peer(relay, bad, b"x").is_none());
    assert_eq!(user.bind(&mut lab, 0x4000, bad), 403);
    assert_eq!(user.bind(&mut lab, 0x4000, address("8.8.4.4:1")), 400, "the number cools");
    assert!(lab.channel_data(client(1), 0x4001, b"x").is_some());
    assert_eq!(user.refresh(&mut lab, 0).code(), 0);
    assert!(lab.server.holds_nothing());
    assert_eq!((lab.server.stats().permissions, lab.server.stats().channels), (0, 0));
}
