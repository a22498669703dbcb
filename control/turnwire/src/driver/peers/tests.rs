//! Sockets towards peers on loopback, waited for as the driver does.

use std::io::{Read, Write};
use std::net::Ipv4Addr;

use mio::{Events, Poll};

use super::*;

/// Peers, and what they are waited for with.
struct World {
    poll: Poll,
    events: Events,
    peers: Peers,
}

fn world(connections_max: usize) -> World {
    let poll = Poll::new().expect("a poller");
    let registry = poll.registry().try_clone().expect("a registry");
    let peers = Peers::new(registry, connections_max);
    World { poll, events: Events::with_capacity(16), peers }
}

impl World {
    fn news(&mut self) -> News {
        for _ in 0..100 {
            if let Some(news) = self.peers.next_news() {
                return news;
            }
            let wait = Duration::from_millis(50);
            self.poll.poll(&mut self.events, Some(wait)).expect("polled");
            for event in &self.events {
                self.peers.on_event(event);
            }
        }
        panic!("no news");
    }
}

/// An address of loopback that nobody listens on.
fn free() -> SocketAddr {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
    taken.local_addr().expect("bound")
}

#[test]
fn a_connection_has_the_relayed_address_while_that_is_listened_on() {
    // given a relayed address that is listened on, and a peer
    let mut world = world(8);
    let relay = free();
    world.peers.open_listener(relay).expect("a listener");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a peer");
    let peer = listener.local_addr().expect("bound");
    // when
    world.peers.connect(PeerConnection(1), relay, peer);
    // then
    let News::Connected { id, result: Ok(()) } = world.news() else { panic!("not connected") };
    assert_eq!(id, PeerConnection(1));
    let (mut far, from) = listener.accept().expect("accepted");
    assert_eq!(from, relay);
    // and what the peer says at once is the taker's
    far.write_all(b"early").expect("written");
    drop(far);
    let mut near = world.peers.take(id).expect("an established connection");
    near.set_nonblocking(false).expect("blocking");
    let mut text = String::new();
    near.read_to_string(&mut text).expect("read");
    assert_eq!(text, "early");
    assert!(world.peers.take(id).is_none() && !world.peers.close(id), "it is given away once");
}

#[test]
fn a_peer_that_connects_is_told_of_and_so_is_its_end() {
    // given
    let mut world = world(8);
    let relay = free();
    world.peers.open_listener(relay).expect("a listener");
    // when
    let far = TcpStream::connect(relay).expect("connected");
    // then
    let News::Accepted { relay: on, peer, id } = world.news() else { panic!("not accepted") };
    assert_eq!((on, peer), (relay, far.local_addr().expect("bound")));
    assert_ne!(id.0 & PeerConnection::ACCEPTED, 0);
    // when it goes
    drop(far);
    // then
    let News::Closed { id: closed } = world.news() else { panic!("not closed") };
    assert_eq!(closed, id);
    assert!(world.peers.close_listener(relay) && !world.peers.close_listener(relay));
    assert_eq!(world.peers.counts(), PeerCounts { accepted: 1, ..PeerCounts::default() });
}

#[test]
fn nobody_there_and_no_room_are_told_apart() {
    let mut world = world(1);
    let relay = free();
    world.peers.open_listener(relay).expect("a listener");
    // nobody there
    world.peers.connect(PeerConnection(1), relay, free());
    let News::Connected { result, .. } = world.news() else { panic!("no answer") };
    assert_eq!(result, Err(ConnectRefusal::Failed));
    // no room
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a peer");
    let peer = listener.local_addr().expect("bound");
    world.peers.connect(PeerConnection(2), relay, peer);
    let News::Connected { result: Ok(()), .. } = world.news() else { panic!("not connected") };
    world.peers.connect(PeerConnection(3), relay, peer);
    let News::Connected { result, .. } = world.news() else { panic!("no answer") };
    assert_eq!(result, Err(ConnectRefusal::Exhausted));
}

#[test]
fn an_address_in_use_is_told() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
    let address = taken.local_addr().expect("bound");
    assert_eq!(world(1).peers.open_listener(address), Err(PortRefusal::InUse));
    // also by a listener of our own
    let (mut one, mut other, relay) = (world(1), world(1), free());
    assert_eq!(one.peers.open_listener(relay), Ok(()));
    assert_eq!(other.peers.open_listener(relay), Err(PortRefusal::InUse));
}

#[test]
fn a_peer_that_does_not_answer_is_given_up_in_time() {
    // given a peer whose queue is full, so that it answers nothing
    let mut world = world(8);
    let relay = free();
    let deaf = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    deaf.bind(&SockAddr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))).expect("bound");
    deaf.listen(0).expect("listening");
    let peer = deaf.local_addr().expect("bound").as_socket().expect("an address");
    let _fills = TcpStream::connect(peer).expect("the one that it has room for");
    world.peers.connect(PeerConnection(1), relay, peer);
    let until = world.peers.deadline().expect("a deadline");
    // when
    world.peers.expire(until - Duration::from_millis(1));
    assert!(world.peers.next_news().is_none());
    world.peers.expire(until);
    // then
    let Some(News::Connected { result, .. }) = world.peers.next_news() else { panic!("no news") };
    assert_eq!(result, Err(ConnectRefusal::Failed));
    assert_eq!((world.peers.counts().open, world.peers.deadline()), (0, None));
}
