//! Every lifetime of RFC 8656, to the second, under a virtual clock (with a driver that is on time,
//! and with one that never gives the timer).

use std::time::Duration;

use turn::message::Method;

use crate::lab::{Lab, address, client};
use crate::user::{Mode, User, alice};

const TICK: Duration = Duration::from_nanos(1);

/// Runs the case with timers and without.
fn both(case: impl Fn(&mut Lab, fn(&mut Lab, Duration))) {
    for pass in [Lab::pass, Lab::step] {
        case(&mut Lab::new(), pass);
    }
}

#[test]
fn an_allocation_lives_600_seconds() {
    both(|lab, pass| {
        let (mut user, relay) = alice(lab, 1);
        let peer = address("9.9.9.9:1");
        pass(lab, Duration::from_secs(599));
        assert_eq!(user.bind(lab, 0x4000, peer), 0);
        pass(lab, Duration::from_secs(1) - TICK);
        assert!(lab.by_peer(relay, peer, b"x").is_some());
        assert!(lab.channel_data(client(1), 0x4000, b"x").is_some());
        assert!(lab.send(client(1), peer, b"x").is_some());
        assert!(lab.wire.route(client(1), 0x4000, lab.now.monotonic).is_some());
        pass(lab, TICK);
        assert!(lab.wire.route(client(1), 0x4000, lab.now.monotonic).is_none());
        assert!(lab.by_peer(relay, peer, b"x").is_none());
        assert!(lab.channel_data(client(1), 0x4000, b"x").is_none());
        assert!(lab.send(client(1), peer, b"x").is_none());
        assert_eq!(user.refresh(lab, 600).code(), 437);
        assert!(lab.server.holds_nothing());
        assert_eq!(lab.server.stats().expired, 1);
    });
}

#[test]
fn a_refresh_counts_from_the_refresh_and_at_most_an_hour() {
    both(|lab, pass| {
        let (mut user, _) = alice(lab, 1);
        pass(lab, Duration::from_secs(600) - TICK);
        assert_eq!(user.refresh(lab, 999_999).lifetime(), 3600);
        pass(lab, Duration::from_secs(3600) - TICK);
        assert_eq!(user.refresh(lab, 700).lifetime(), 700);
        pass(lab, Duration::from_secs(700) - TICK);
        assert_eq!(user.refresh(lab, 1).lifetime(), 600);
        pass(lab, Duration::from_secs(600));
        assert_eq!(user.refresh(lab, 1).code(), 437);
    });
}

#[test]
fn a_permission_lives_exactly_300_seconds_from_its_last_refresh() {
    both(|lab, pass| {
        let (mut user, relay) = alice(lab, 1);
        let peer = address("9.9.9.9:1");
        assert_eq!(user.permit(lab, &[peer]), 0);
        pass(lab, Duration::from_secs(200));
        user.refresh(lab, 3600);
        // Data refreshes nothing.
        assert!(lab.send(client(1), peer, b"x").is_some());
        assert!(lab.by_peer(relay, peer, b"x").is_some());
        pass(lab, Duration::from_secs(100) - TICK);
        assert!(lab.send(client(1), peer, b"x").is_some());
        assert!(lab.by_peer(relay, peer, b"x").is_some());
        pass(lab, TICK);
        assert!(lab.send(client(1), peer, b"x").is_none());
        assert!(lab.by_peer(relay, peer, b"x").is_none());
        assert_eq!(user.permit(lab, &[peer]), 0);
        pass(lab, Duration::from_secs(150));
        assert_eq!(user.permit(lab, &[peer]), 0);
        pass(lab, Duration::from_secs(300) - TICK);
        assert!(lab.send(client(1), peer, b"x").is_some());
        pass(lab, TICK);
        assert!(lab.send(client(1), peer, b"x").is_none());
    });
}

#[test]
fn a_channel_lives_600_seconds_and_keeps_its_own_peer_admitted() {
    both(|lab, pass| {
        let (mut user, relay) = alice(lab, 1);
        user.refresh(lab, 3600);
        let (peer, neighbour) = (address("9.9.9.9:1"), address("9.9.9.9:2"));
        assert_eq!(user.bind(lab, 0x4000, peer), 0);
        pass(lab, Duration::from_secs(300) - TICK);
        assert!(lab.send(client(1), neighbour, b"x").is_some());
        pass(lab, TICK);
        // The permission is over; the channel is not.
        assert!(lab.send(client(1), peer, b"x").is_none());
        assert!(lab.by_peer(relay, neighbour, b"x").is_none());
        assert!(lab.by_peer(relay, peer, b"x").is_some());
        assert!(lab.channel_data(client(1), 0x4000, b"x").is_some());
        pass(lab, Duration::from_secs(300) - TICK);
        assert!(lab.by_peer(relay, peer, b"x").is_some());
        assert!(lab.channel_data(client(1), 0x4000, b"x").is_some());
        assert!(lab.wire.route(client(1), 0x4000, lab.now.monotonic).is_some());
        pass(lab, TICK);
        assert!(lab.wire.route(client(1), 0x4000, lab.now.monotonic).is_none());
        assert!(lab.by_peer(relay, peer, b"x").is_none());
        assert!(lab.channel_data(client(1), 0x4000, b"x").is_none());
        assert_eq!(user.refresh(lab, 600).code(), 0);
    });
}

#[test]
fn a_channel_cools_five_minutes_and_a_refresh_meanwhile_restores_it() {
    both(|lab, pass| {
        let (mut user, relay) = alice(lab, 1);
        user.refresh(lab, 3600);
        let (peer, other) = (address("9.9.9.9:1"), address("9.9.9.8:1"));
        assert_eq!(user.bind(lab, 0x4000, peer), 0);
        pass(lab, Duration::from_secs(900) - TICK);
        assert!(lab.channel_data(client(1), 0x4000, b"x").is_none());
        assert_eq!(user.bind(lab, 0x4000, other), 400);
        assert_eq!(user.bind(lab, 0x4001, peer), 400);
        assert_eq!(user.bind(lab, 0x4000, peer), 0);
        assert!(lab.wire.route(client(1), 0x4000, lab.now.monotonic).is_some());
        assert!(lab.channel_data(client(1), 0x4000, b"x").is_some());
        assert!(lab.by_peer(relay, peer, b"x").is_some());
        pass(lab, Duration::from_secs(900));
        assert_eq!(user.bind(lab, 0x4001, peer), 0);
        assert_eq!(user.bind(lab, 0x4000, other), 0);
        assert_eq!(lab.server.stats().channels, 2);
        assert_eq!(user.refresh(lab, 0).code(), 0);
        assert!(lab.server.holds_nothing());
        assert_eq!(lab.server.stats().channels, 0);
    });
}

#[test]
fn a_reservation_lives_30_seconds() {
    for (time, code) in [(Duration::from_secs(30) - TICK, 0), (Duration::from_secs(30), 508)] {
        both(|lab, pass| {
            let mut user = User::new("alice", client(1), Mode::Legacy);
            let pair = user.allocate_with(lab, |b| _ = b.even_port(true));
            let token = pair.message().reservation_token().unwrap().unwrap();
            // It does not hang on the allocation that made it.
            assert_eq!(user.refresh(lab, 0).code(), 0);
            let mut other = User::new("alice", client(2), Mode::Legacy);
            other.learn(lab);
            pass(lab, time);
            let answer = other.allocate_with(lab, |b| _ = b.reservation_token(&token));
            assert_eq!(answer.code(), code);
            assert_eq!(lab.server.stats().reservations, 0);
        });
    }
}

#[test]
fn the_deadline_is_the_next_thing_that_happens() {
    let mut lab = Lab::new();
    assert_eq!(lab.server.deadline(), None);
    let start = lab.now.monotonic;
    let mut user = User::new("alice", client(1), Mode::Legacy);
    user.allocate_with(&mut lab, |b| _ = b.even_port(true));
    let deadline = |lab: &Lab| (lab.server.deadline().unwrap() - start).as_secs();
    assert_eq!(deadline(&lab), 30);
    lab.pass_secs(100);
    assert_eq!(deadline(&lab), 600);
    assert_eq!(user.bind(&mut lab, 0x4000, address("9.9.9.9:1")), 0);
    assert_eq!(deadline(&lab), 400);
    assert_eq!(user.ask(&mut lab, Method::REFRESH, |b| _ = b.lifetime_secs(3600)).code(), 0);
    lab.pass_secs(300);
    assert_eq!(deadline(&lab), 700);
    lab.pass_secs(300);
    assert_eq!(deadline(&lab), 1000);
    lab.pass_secs(300);
    assert_eq!(deadline(&lab), 3700);
    user.refresh(&mut lab, 0);
    assert_eq!(lab.server.deadline(), None);
}

#[test]
fn a_burst_of_expiries_is_spread_over_calls_and_nothing_expired_works() {
    let mut lab = Lab::new();
    for n in 0..1000 {
        alice(&mut lab, n);
    }
    lab.step(Duration::from_secs(600));
    assert!(lab.send(client(0), address("9.9.9.9:1"), b"x").is_none());
    assert!(lab.server.deadline().unwrap() <= lab.now.monotonic);
    assert_eq!(lab.server.stats().allocations, 1000 - 256);
    let mut last = User::new("alice", client(999), Mode::Legacy);
    assert_eq!(last.refresh(&mut lab, 600).code(), 437);
    lab.pass_secs(0);
    assert!(lab.server.holds_nothing());
    assert!(lab.wire.ports.is_empty());
}
