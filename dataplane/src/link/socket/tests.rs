//! What a kernel does that refuses, and what is told with a datagram or is the socket's own.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use super::sys::{option, set_option};
use super::*;
use crate::batch::{Departure, Marks};
use std::net::{SocketAddr, UdpSocket};

const SIZES: BufferSizes = BufferSizes { receive: 1 << 20, send: 1 << 20 };

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn what_the_kernel_refuses_to_cut_is_sent_one_by_one_and_not_tried_again_at_once() {
    // given a socket without UDP checksums, for which the kernel cuts nothing
    let bound = bind_listener(address("127.0.0.1:0"), false, SIZES).unwrap();
    set_option(bound.descriptor(), libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).unwrap();
    let offload = Offload { receive: false, send: true };
    let mut link = SocketLink::with_offload(Poll::new().unwrap(), vec![bound], offload);
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let to = receiver.local_addr().unwrap();
    for round in 1..=3_u64 {
        // when
        let mut batch = Batch::new(64, 100);
        for index in 0..20 {
            let arrival = Arrival { remote: to, local: to, ttl: 0, tos: 0, truncated: false };
            assert!(batch.push(&[index; 50], arrival));
            let (by, marks) = (SocketId::listener(0), Some(Marks { ttl: 9, tos: 0 }));
            let departure = Departure { by, to, from: None, marks, dont_fragment: false };
            batch.depart(index.into(), departure);
        }
        link.send(&mut batch);
        // then all arrive, in order
        for index in 0..20 {
            assert_eq!(batch.outcome(index.into()), Outcome::Sent);
            let mut bytes = [0; 100];
            let size = receiver.recv(&mut bytes).unwrap();
            assert_eq!(bytes[..size], [index; 50]);
        }
        let Oddities { messages_sent, segmentation_refused, .. } = link.oddities();
        assert_eq!((messages_sent, segmentation_refused), (20 * round, 1));
    }
}

/// Sends a datagram of each TTL to `to` by the socket `by`, in one batch; without one with the host's
/// default.
fn send(link: &mut SocketLink, by: SocketId, to: SocketAddr, ttls: &[Option<u8>]) {
    let mut batch = Batch::new(64, 100);
    for (index, ttl) in ttls.iter().enumerate() {
        let arrival = Arrival { remote: to, local: to, ttl: 0, tos: 0, truncated: false };
        assert!(batch.push(&[index as u8; 20], arrival));
        let marks = ttl.map(|ttl| Marks { ttl, tos: 0 });
        batch.depart(index, Departure { by, to, from: None, marks, dont_fragment: false });
    }
    link.send(&mut batch);
    (0..ttls.len()).for_each(|index| assert_eq!(batch.outcome(index), Outcome::Sent));
}

/// The TTLs of the next `count` datagrams that arrive; the order in which they were sent is checked
/// by their contents, which begin anew at 0 with each batch.
fn arrived(link: &mut SocketLink, count: usize) -> Vec<u8> {
    let (mut ttls, mut last) = (Vec::new(), None);
    let mut batch = Batch::new(64, 100);
    for _ in 0..1000 {
        if ttls.len() == count {
            break;
        }
        link.wait(Some(Duration::from_millis(10))).unwrap();
        batch.clear();
        while link.receive(&mut batch).is_some() {}
        for index in 0..batch.len() {
            let number = batch.payload(index)[0];
            assert!(number == 0 || last == Some(number - 1), "{last:?}, then {number}");
            last = Some(number);
            ttls.push(batch.arrival(index).ttl);
        }
    }
    assert_eq!(ttls.len(), count);
    ttls
}

/// A link with one listener at `ip`, and where it listens.
fn listening(ip: &str) -> (SocketLink, SocketAddr) {
    let poll = Poll::new().unwrap();
    let listener = bind_listener(SocketAddr::new(ip.parse().unwrap(), 0), false, SIZES).unwrap();
    let local = listener.local();
    register(poll.registry(), &listener, SocketId::listener(0)).unwrap();
    (SocketLink::new(poll, vec![listener]), local)
}

fn host_default(ip: &str) -> u8 {
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    let (level, name) = match ip {
        "::1" => (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS),
        _ => (libc::IPPROTO_IP, libc::IP_TTL),
    };
    option(std::os::fd::AsFd::as_fd(&socket), level, name).unwrap() as u8
}

#[test]
fn every_datagram_has_its_ttl_whether_it_is_told_or_the_sockets_own() {
    for ip in ["127.0.0.1", "::1"] {
        let default = host_default(ip);
        let ((mut sender, _), (mut receiver, to)) = (listening(ip), listening(ip));
        // given datagrams alone and many together, of usual and rare TTLs, and of none
        let usual = vec![Some(63); 30];
        let mixed: Vec<_> =
            (0..60).map(|at| [Some(63), None, Some(9), Some(255)][at % 4]).collect();
        let other = vec![Some(127); 40];
        let mut batches: Vec<&[Option<u8>]> = vec![&usual, &mixed, &other, &mixed];
        for _ in 0..40 {
            batches.extend([&usual[..1], &other[..1], &other[..1], &mixed[1..2]]);
        }
        for ttls in batches {
            // when
            send(&mut sender, SocketId::listener(0), to, ttls);
            // then
            let expected: Vec<_> = ttls.iter().map(|ttl| ttl.unwrap_or(default)).collect();
            assert_eq!(arrived(&mut receiver, ttls.len()), expected, "{ip}");
        }
    }
}

#[test]
fn two_links_that_send_by_one_socket_do_not_disturb_each_others_ttls() {
    for ip in ["127.0.0.1", "::1"] {
        // given a relay port of one link, lent to another
        let default = host_default(ip);
        let (mut receiver, to) = listening(ip);
        let (mut owner, mut borrower) = (listening(ip).0, listening(ip).0);
        let port = bind_relay(SocketAddr::new(ip.parse().unwrap(), 0), SIZES).unwrap();
        let (number, local) = (port.number(), port.local());
        let lent = duplicate(number, local).unwrap();
        let moved = duplicate(number, local).unwrap();
        assert!(owner.open(0, port).is_none() && borrower.lend(0, lent).is_none());
        let (mine, loan) = (SocketId::port(0), SocketId::loan(0));
        // when they take turns
        for ttls in [[Some(63), Some(127)], [Some(127), Some(63)], [None, Some(9)], [Some(5), None]]
        {
            for _ in 0..20 {
                send(&mut owner, mine, to, &ttls[..1]);
                send(&mut borrower, loan, to, &ttls[1..]);
                // then each has its own
                let expected = ttls.map(|ttl| ttl.unwrap_or(default));
                assert_eq!(arrived(&mut receiver, 2), expected, "{ip}");
            }
        }
        // and one that takes it over begins with the host's default
        assert!(borrower.take_over(0, moved).is_none());
        send(&mut borrower, mine, to, &[None, Some(63), None]);
        assert_eq!(arrived(&mut receiver, 3), [default, 63, default], "{ip}");
        assert!(owner.close(0).is_some());
        borrower.hear(0, 0);
        send(&mut borrower, mine, to, &[None]);
        send(&mut borrower, mine, to, &[Some(63), None]);
        assert_eq!(arrived(&mut receiver, 3), [default, 63, default], "{ip}");
    }
}

#[test]
fn a_datagram_in_two_pieces_leaves_alone_as_one() {
    let ((mut sender, _), (mut receiver, to)) = (listening("127.0.0.1"), listening("127.0.0.1"));
    // given a header that is kept beside its payload
    let mut batch = Batch::new(1, 100);
    let arrival = Arrival { remote: to, local: to, ttl: 0, tos: 0, truncated: false };
    assert!(batch.push(b"data", arrival));
    while batch.pieces(0)[0].is_empty() {
        assert!(batch.prepend(0, b"head"));
    }
    let sent = batch.pieces(0).concat();
    let (by, marks) = (SocketId::listener(0), Some(Marks { ttl: 9, tos: 0 }));
    batch.depart(0, Departure { by, to, from: None, marks, dont_fragment: false });
    // when
    sender.send(&mut batch);
    // then
    assert_eq!(batch.outcome(0), Outcome::Sent);
    let mut got = Batch::new(1, 1000);
    for _ in 0..1000 {
        receiver.wait(Some(Duration::from_millis(10))).unwrap();
        if receiver.receive(&mut got).is_some() && !got.is_empty() {
            break;
        }
    }
    assert_eq!((got.payload(0), got.arrival(0).ttl), (&sent[..], 9));
}

/// Two workers, each with a descriptor of one socket.
#[test]
fn a_lent_socket_sends_long_datagrams_after_its_owner_sent_with_df() {
    crate::kernel::testing::in_namespace(|| {
        crate::kernel::testing::ip("link set lo mtu 1500");
        let bound = bind_relay(address("127.0.0.1:0"), SIZES).unwrap();
        let lent = duplicate(bound.number(), bound.local()).unwrap();
        let link = || SocketLink::new(Poll::new().unwrap(), Vec::new());
        let (mut owner, mut borrower) = (link(), link());
        assert!(owner.open(0, bound).is_none() && borrower.lend(0, lent).is_none());
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let to = receiver.local_addr().unwrap();
        let send = |link: &mut SocketLink, by, size: usize, dont_fragment| {
            let mut batch = Batch::new(1, 3000);
            let arrival = Arrival { remote: to, local: to, ttl: 0, tos: 0, truncated: false };
            assert!(batch.push(&[7; 3000][..size], arrival));
            batch.depart(0, Departure { by, to, from: None, marks: None, dont_fragment });
            link.send(&mut batch);
            batch.outcome(0)
        };
        for _ in 0..3 {
            // given DF, left set by the one
            assert_eq!(send(&mut owner, SocketId::port(0), 100, true), Outcome::Sent);
            let refused = send(&mut owner, SocketId::port(0), 2000, true);
            assert_eq!(refused, Outcome::Refused(Reason::TooBig), "DF is obeyed");
            // then the other's are fragmented all the same
            assert_eq!(send(&mut borrower, SocketId::loan(0), 2000, false), Outcome::Sent);
            let mut bytes = [0; 3000];
            assert_eq!(receiver.recv(&mut bytes).unwrap(), 100);
            assert_eq!(receiver.recv(&mut bytes).unwrap(), 2000);
        }
    });
}

/// Has the host itself say about a datagram from `relay` to `peer` what a router may: RFC 4443 section 3.
/// The kernel fills the checksum in.
fn tell_icmpv6(kind: u8, code: u8, word: u32, relay: SocketAddr, peer: SocketAddr) {
    let mut message = vec![kind, code, 0, 0];
    message.extend(word.to_be_bytes());
    message.extend([0x60, 0, 0, 0, 0, 8, 17, 64]);
    message.extend([std::net::Ipv6Addr::LOCALHOST.octets(); 2].concat());
    message.extend(relay.port().to_be_bytes());
    message.extend(peer.port().to_be_bytes());
    message.extend([0, 8, 0, 0]);
    let (domain, protocol) = (socket2::Domain::IPV6, socket2::Protocol::ICMPV6);
    let raw = socket2::Socket::new(domain, socket2::Type::RAW, Some(protocol)).unwrap();
    raw.send_to(&message, &address("[::1]:0").into()).unwrap();
}

/// Waits until a socket has something in its error queue.
fn wait_for_error(link: &SocketLink) {
    let socket = &link.ports[0].as_ref().unwrap().bound;
    for _ in 0..1000 {
        // SO_ERROR would take it away
        let mut poll = Poll::new().unwrap();
        let copy = duplicate(socket.number(), socket.local()).unwrap();
        register(poll.registry(), &copy, SocketId::port(0)).unwrap();
        let mut events = Events::with_capacity(1);
        poll.poll(&mut events, Some(Duration::from_millis(10))).unwrap();
        deregister(poll.registry(), &copy).unwrap();
        if events.iter().any(mio::event::Event::is_error) {
            return;
        }
    }
    panic!("no error came");
}

#[test]
fn what_routers_say_of_one_datagram_is_not_held_against_the_next() {
    crate::kernel::testing::in_namespace(|| {
        const TOO_BIG: (u8, u8, u32) = (2, 0, 1280);
        const PROHIBITED: (u8, u8, u32) = (1, 1, 0);
        // given
        let bound = bind_relay(address("[::1]:0"), SIZES).unwrap();
        let relay = bound.local();
        let offload = Offload { receive: false, send: true };
        let mut link = SocketLink::with_offload(Poll::new().unwrap(), Vec::new(), offload);
        assert!(link.open(0, bound).is_none());
        let receiver = UdpSocket::bind("[::1]:0").unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let to = receiver.local_addr().unwrap();
        let (mut sent, mut told) = (0, 0);
        for (kind, code, word) in [TOO_BIG, PROHIBITED] {
            for (count, dont_fragment) in [(20, false), (1, false), (20, true), (1, true)] {
                let case = format!("type {kind}, {count} datagrams, DF {dont_fragment}");
                // when a router complains before the next datagrams leave
                tell_icmpv6(kind, code, word, relay, address(&format!("[::1]:{}", to.port())));
                wait_for_error(&link);
                let mut batch = Batch::new(64, 1000);
                for index in 0..count {
                    let arrival =
                        Arrival { remote: to, local: to, ttl: 0, tos: 0, truncated: false };
                    assert!(batch.push(&[index as u8; 900], arrival));
                    let by = SocketId::port(0);
                    let departure = Departure { by, to, from: None, marks: None, dont_fragment };
                    batch.depart(index, departure);
                }
                link.send(&mut batch);
                // then all leave, as one message as before
                (sent, told) = (sent + 1, told + 1);
                for index in 0..count {
                    assert_eq!(batch.outcome(index), Outcome::Sent, "{case}");
                    let mut bytes = [0; 1000];
                    let size = receiver.recv(&mut bytes).unwrap();
                    assert_eq!(bytes[..size], [index as u8; 900], "{case}");
                }
                let seen = link.oddities();
                assert_eq!(seen.segmentation_refused, 0, "{case}");
                assert_eq!((seen.messages_sent, seen.icmp_errors), (sent, told), "{case}");
                assert!(link.unreachable().is_some(), "{case}: and it is told of");
            }
        }
    });
}
