//! What the program forwards, and what it leaves to the sockets.

use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use mio::{Events, Poll, Token, Waker};
use wire::{Direction, Reason};

use super::lab::{Ends, Lab, attach, channel_data, config, is_silent, now, receive, route};
use crate::kernel::testing::{in_namespace, ip};
use crate::kernel::watch::Chore;
use crate::kernel::{Changes, Kernel, XdpMode};
use crate::route::Route;
use crate::stats::Traffic;

/// One datagram each way, through the program.
#[track_caller]
fn exchange(ends: &Ends, route: &Route) {
    let message = channel_data(route.channel, b"to the peer");
    ends.client.send_to(&message, route.listener).unwrap();
    assert_eq!(receive(&ends.peer), (b"to the peer".to_vec(), route.relay));
    ends.peer.send_to(b"to the client", route.relay).unwrap();
    let message = channel_data(route.channel, b"to the client");
    assert_eq!(receive(&ends.client), (message, route.listener));
}

fn publish(kernel: &mut Kernel, route: &Route) {
    kernel.open_port(route.relay);
    kernel.add_route(route).unwrap();
}

#[test]
fn a_channel_is_forwarded_both_ways_in_every_mix_of_families_and_either_mode() {
    in_namespace(|| {
        let lab = Lab::new();
        for mode in [XdpMode::Native, XdpMode::Generic] {
            for (client, peer) in [('4', '4'), ('6', '6'), ('4', '6'), ('6', '4')] {
                let route = route(client, peer);
                let ends = lab.ends(&route);
                let (mut kernel, attached) = attach(|config| config.mode = mode).unwrap();
                assert!(attached.iter().all(|interface| interface.mode == mode), "{attached:?}");
                publish(&mut kernel, &route);

                exchange(&ends, &route);

                let stats = kernel.stats();
                let one = |bytes| Traffic { packets: 1, bytes };
                assert_eq!(stats.forwarded(Direction::ToPeer), one(11));
                assert_eq!(stats.forwarded(Direction::ToClient), one(13));
                let counters = kernel.route_counters(&route);
                assert_eq!((counters.to_peer, counters.to_client), (one(11), one(13)));
            }
        }
    });
}

#[test]
fn without_a_route_the_sockets_have_it_byte_for_byte() {
    in_namespace(|| {
        let lab = Lab::new();
        let route = route('4', '4');
        let ends = lab.ends(&route);
        let (mut kernel, _) = attach(|_| ()).unwrap();
        publish(&mut kernel, &route);
        exchange(&ends, &route);

        kernel.remove_route(&route);
        let message = channel_data(route.channel, b"to the peer");
        ends.client.send_to(&message, route.listener).unwrap();
        assert_eq!(receive(&ends.listener), (message, route.client));
        ends.peer.send_to(b"to the client", route.relay).unwrap();
        assert_eq!(receive(&ends.relay), (b"to the client".to_vec(), route.peer));
        assert_eq!(kernel.stats().refused(Reason::NoRoute), 2);
        assert_eq!(kernel.route_counters(&route), Default::default());

        kernel.close_port(route.relay);
        let before = kernel.stats().refused(Reason::NotOurs);
        ends.peer.send_to(b"to the client", route.relay).unwrap();
        receive(&ends.relay);
        assert_eq!(kernel.stats().refused(Reason::NotOurs), before + 1);
        let stats = kernel.stats();
        let left = (stats.routes, stats.entries, stats.ports, stats.network.paths);
        assert_eq!(left, (0, 0, 0, 0), "nothing is left");
    });
}

#[test]
fn a_route_is_over_at_its_expiry_and_back_with_a_refresh() {
    in_namespace(|| {
        let lab = Lab::new();
        let mut route = route('4', '4');
        let ends = lab.ends(&route);
        let (mut kernel, _) = attach(|_| ()).unwrap();
        route.expires = now() + Duration::from_secs(2);
        publish(&mut kernel, &route);
        exchange(&ends, &route);

        sleep(route.expires.saturating_sub(now()));
        let message = channel_data(route.channel, b"late");
        ends.client.send_to(&message, route.listener).unwrap();
        assert!(is_silent(&ends.peer));
        assert_eq!(receive(&ends.listener), (message, route.client));
        assert_eq!(kernel.stats().refused(Reason::Expired), 1);

        route.expires = now() + Duration::from_secs(600);
        kernel.add_route(&route).unwrap();
        exchange(&ends, &route);
        assert_eq!(kernel.route_counters(&route).to_peer.packets, 2, "the counters go on");
    });
}

#[test]
fn a_client_talks_to_another_client_of_ours_inside_the_program() {
    in_namespace(|| {
        let lab = Lab::new();
        // The "peer" is the other client's relayed address, and the other way round.
        let here = Route {
            relay: "198.51.100.1:50000".parse().unwrap(),
            peer: "198.51.100.1:50001".parse().unwrap(),
            inner: true,
            ..route('4', '4')
        };
        let there = Route {
            client: "198.51.100.2:7000".parse().unwrap(),
            listener: "198.51.100.1:3478".parse().unwrap(),
            channel: 0x4fff,
            relay: here.peer,
            peer: here.relay,
            ..here
        };
        let ends = lab.ends(&route('4', '4'));
        let (mut kernel, _) = attach(|_| ()).unwrap();
        publish(&mut kernel, &here);
        publish(&mut kernel, &there);

        let message = channel_data(here.channel, b"hello, you");
        ends.client.send_to(&message, here.listener).unwrap();
        let message = channel_data(there.channel, b"hello, you");
        assert_eq!(receive(&ends.peer), (message, there.listener));
        assert_eq!(kernel.route_counters(&here).to_peer.packets, 1);
        assert_eq!(kernel.route_counters(&there).to_client.packets, 1);
        assert_eq!(kernel.stats().network.paths_without_hop, 0);
    });
}

#[test]
fn what_does_not_fit_the_next_hop_goes_by_the_sockets() {
    in_namespace(|| {
        let lab = Lab::new();
        let route = route('4', '4');
        let ends = lab.ends(&route);
        let (mut kernel, _) = attach(|_| ()).unwrap();
        publish(&mut kernel, &route);
        ip("link set eth1 mtu 1000");
        while kernel.on_event().more {}

        for (size, fits) in [(1000 - 28, true), (1000 - 28 + 1, false)] {
            let message = channel_data(route.channel, &vec![7; size]);
            ends.client.send_to(&message, route.listener).unwrap();
            match fits {
                true => assert_eq!(receive(&ends.peer).0.len(), size),
                false => assert!(is_silent(&ends.peer), "{size} bytes"),
            }
        }
        receive(&ends.listener);
        assert_eq!(kernel.stats().refused(Reason::TooBig), 1);
    });
}

#[test]
fn routes_follow_the_kernel_s_routes() {
    in_namespace(|| {
        let lab = Lab::new();
        let route = Route { peer: "203.0.113.9:7000".parse().unwrap(), ..route('4', '4') };
        lab.peer.ip("address add 203.0.113.9/32 dev p0");
        ip("route add 203.0.113.9 via 198.51.100.2");
        let ends = lab.ends(&route);
        let (mut kernel, _) = attach(|_| ()).unwrap();
        publish(&mut kernel, &route);
        exchange(&ends, &route);

        ip("route replace blackhole 203.0.113.9");
        assert_eq!(kernel.on_event().routes_moved, 1);
        let message = channel_data(route.channel, b"nowhere to go");
        ends.client.send_to(&message, route.listener).unwrap();
        assert_eq!(receive(&ends.listener), (message, route.client));
        assert_eq!(kernel.stats().refused(Reason::NoHop), 1);

        ip("route replace 203.0.113.9 via 198.51.100.2");
        // The kernel says it twice: the old one goes, the new one comes.
        let mut moved = 0;
        while moved == 0 {
            moved += kernel.on_event().routes_moved;
        }
        exchange(&ends, &route);
    });
}

#[test]
fn a_channel_whose_way_is_yet_to_be_found_is_the_sockets_until_then() {
    in_namespace(|| {
        let lab = Lab::new();
        let route = route('4', '4');
        let ends = lab.ends(&route);
        let (mut kernel, _) = attach(|_| ()).unwrap();
        kernel.network.line().hold(true);
        publish(&mut kernel, &route);
        let message = channel_data(route.channel, b"who knows the way?");
        ends.client.send_to(&message, route.listener).unwrap();
        assert_eq!(receive(&ends.listener), (message, route.client));
        assert_eq!(kernel.stats().refused(Reason::NoHop), 1);

        kernel.network.line().hold(false);
        assert_eq!(kernel.on_event().routes_moved, 1);
        exchange(&ends, &route);
    });
}

#[test]
fn a_thread_of_its_own_finds_the_way_and_wakes_who_asked() {
    in_namespace(|| {
        let lab = Lab::new();
        let route = route('4', '4');
        let ends = lab.ends(&route);
        let mut poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let (mut kernel, _) = Kernel::attach(&config(), waker).unwrap();
        publish(&mut kernel, &route);
        let mut events = Events::with_capacity(4);
        while kernel.stats().network.paths_without_hop > 0 {
            poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
            assert!(!events.is_empty(), "nobody woke: {:?}", kernel.stats().network);
            kernel.on_event();
        }
        exchange(&ends, &route);
        assert!(kernel.network.is_watched());
    });
}

#[test]
fn a_watch_that_fails_asks_for_everything_anew_and_the_second_time_leaves_all_to_the_sockets() {
    in_namespace(|| {
        // given a watch with a thread
        let lab = Lab::new();
        let route = route('4', '4');
        let ends = lab.ends(&route);
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let (mut kernel, _) = Kernel::attach(&config(), waker).unwrap();
        publish(&mut kernel, &route);
        let found = |kernel: &mut Kernel| kernel.stats().network.paths_without_hop == 0;
        until(&mut kernel, "the way is found", found);

        // when it fails, then the way is soon the program's again
        assert!(kernel.network.line().have(Chore::Fail));
        until(&mut kernel, "everything is asked for anew", |kernel| {
            kernel.stats().network.news_lost == 1
        });
        until(&mut kernel, "the way is found again", found);
        exchange(&ends, &route);
        assert!(kernel.network.is_watched());

        // and when it fails again at once, all is the sockets', and it says why
        assert!(kernel.network.line().have(Chore::Fail));
        let mut lost = Vec::new();
        until(&mut kernel, "the interfaces are lost", |kernel| {
            lost.extend(kernel.tick(now()).lost);
            !lost.is_empty()
        });
        let names: Vec<&str> = lost.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["eth0", "eth1"]);
        assert!(lost[0].1.contains("restart"), "{lost:?}");
        assert_eq!((kernel.attached().count(), kernel.stats().network.hops_usable), (0, 0));
        let message = channel_data(route.channel, b"whose is it now?");
        ends.client.send_to(&message, route.listener).unwrap();
        assert_eq!(receive(&ends.listener), (message, route.client));
        assert_eq!(kernel.tick(now()), Changes::default(), "it is told once");
        kernel.remove_route(&route);
    });
}

/// Has a kernel tier whose watch has a thread work until `done`.
fn until(kernel: &mut Kernel, what: &str, mut done: impl FnMut(&mut Kernel) -> bool) {
    for _ in 0..2000 {
        kernel.on_event();
        if done(kernel) {
            return;
        }
        sleep(Duration::from_millis(10));
    }
    panic!("{what}: {:?}", kernel.stats().network);
}

#[test]
fn a_full_table_refuses_and_harms_nothing_that_is_in_it() {
    in_namespace(|| {
        let _lab = Lab::new();
        let (mut kernel, _) = attach(|config| config.routes_max = 100).unwrap();
        let channel = |number: u16| Route { channel: 0x4000 + number, ..route('4', '4') };
        let channel = |number: u16| {
            let mut route = channel(number);
            route.peer.set_port(10_000 + number);
            route
        };
        for number in 0..100 {
            kernel.add_route(&channel(number)).unwrap();
        }
        assert!(kernel.add_route(&channel(100)).is_err());
        assert!(kernel.add_route(&channel(7)).is_ok(), "a refresh needs no room");
        assert_eq!((kernel.stats().routes, kernel.stats().entries), (100, 200));
        kernel.remove_route(&channel(42));
        assert!(kernel.add_route(&channel(100)).is_ok());
        for number in 0..=100 {
            kernel.remove_route(&channel(number));
        }
        let stats = kernel.stats();
        assert_eq!((stats.routes, stats.entries, stats.network.paths), (0, 0, 0));
    });
}

#[test]
fn a_channel_bound_anew_leaves_no_route_of_the_old_one() {
    in_namespace(|| {
        let lab = Lab::new();
        let old = route('4', '4');
        let ends = lab.ends(&old);
        let (mut kernel, _) = attach(|_| ()).unwrap();
        publish(&mut kernel, &old);
        let new = Route { peer: "198.51.100.2:9999".parse().unwrap(), ..old };
        kernel.add_route(&new).unwrap();
        assert_eq!(kernel.stats().entries, 2);
        ends.peer.send_to(b"from the old peer", old.relay).unwrap();
        assert_eq!(receive(&ends.relay).0, b"from the old peer", "not forwarded");
    });
}
